//! Results that say which item they belong to.

use std::rc::Rc;
use std::time::Duration;

use aiopool::{Pool, TaskError, TaskOptions};
use aiopool_testing::in_time;

fn pool() -> Pool {
    Pool::builder().processes(1).child_concurrency(8).build().unwrap()
}

/// The last item ends first.
async fn nap_unless_odd(ms: u64) -> Result<u64, String> {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    if ms % 2 == 1 { Err(format!("{ms} is odd")) } else { Ok(ms) }
}

/// Refuses to be encoded where it is 13.
#[derive(Clone, serde::Deserialize)]
struct NotThirteen(u64);

impl serde::Serialize for NotThirteen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 13 {
            return Err(serde::ser::Error::custom("13 brings bad luck"));
        }
        serializer.serialize_u64(self.0)
    }
}

async fn number(item: NotThirteen) -> u64 {
    item.0
}

async fn double_or_die(x: u64) -> u64 {
    if x == 3 {
        std::process::abort();
    }
    x * 2
}

#[tokio::test]
async fn enumerate_numbers_the_items_whatever_comes_first() {
    let pool = pool();
    let items = [2_000_u64, 101, 0, 1];
    let mut results = pool.try_map(nap_unless_odd, items).as_completed().enumerate();
    let mut seen = Vec::new();
    while let Some((item, result)) = in_time(results.next()).await {
        match result {
            Ok(ms) => assert_eq!(ms, items[item]),
            Err(error) => assert!(error.to_string().contains(&format!("{} is", items[item]))),
        }
        seen.push(item);
    }
    assert_eq!(*seen.last().unwrap(), 0, "the longest nap ended first: {seen:?}");
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3]);

    let mut results = pool.try_map(nap_unless_odd, [20, 1, 0]).enumerate();
    for expected in 0..3 {
        assert_eq!(in_time(results.next()).await.unwrap().0, expected);
    }
    assert!(in_time(results.next()).await.is_none());
}

#[test]
fn items_that_are_never_submitted_count_too() {
    let pool = pool();
    let items: Vec<_> = [1, 13, 2, 13, 3].into_iter().map(NotThirteen).collect();
    for ordered in [true, false] {
        let map = pool.map(number, items.clone());
        let map = if ordered { map } else { map.as_completed() };
        let mut seen = 0;
        for (item, result) in map.enumerate().into_blocking_iter() {
            match result {
                Ok(value) => assert_eq!(value, items[item].0),
                Err(error) => {
                    assert_eq!(items[item].0, 13, "{error}");
                    assert!(matches!(error, TaskError::NotSubmitted(_)), "{error}");
                }
            }
            seen += 1;
        }
        assert_eq!(seen, 5);
    }
}

#[test]
fn each_of_very_many_results_has_its_own_item() {
    let pool = Pool::builder().processes(2).capacity(64).build().unwrap();
    let mut seen = vec![false; 20_000];
    let results = pool.map(|x| async move { x }, 0..20_000_u64).as_completed().enumerate();
    for (item, result) in results.into_blocking_iter() {
        assert_eq!(result.unwrap(), item as u64);
        assert!(!std::mem::replace(&mut seen[item], true), "{item} came twice");
    }
    assert!(seen.into_iter().all(|seen| seen));
}

#[test]
fn the_item_that_killed_its_worker_is_known() {
    let pool = Pool::builder().processes(1).child_concurrency(1).build().unwrap();
    let results = pool.map(double_or_die, 0..6).as_completed().enumerate();
    let lost: Vec<_> = results.into_blocking_iter().filter(|(_, result)| result.is_err()).collect();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].0, 3);
    assert!(lost[0].1.as_ref().unwrap_err().worker_lost().is_some());
}

#[test]
fn map_keyed_gives_the_callers_key_back_with_each_result() {
    let pool = pool();
    // A key that neither travels nor is copied.
    let items = || [(Rc::new("slow"), 2_000), (Rc::new("odd"), 1), (Rc::new("quick"), 0)];
    let results = pool.try_map_keyed(nap_unless_odd, items()).into_blocking_iter();
    let keys: Vec<_> = results.map(|(key, result)| (*key, result.is_ok())).collect();
    assert_eq!(keys, [("slow", true), ("odd", false), ("quick", true)]);

    let results = pool.try_map_keyed(nap_unless_odd, items()).as_completed().into_blocking_iter();
    let mut keys: Vec<_> = results.map(|(key, result)| (*key, result.is_ok())).collect();
    assert_eq!(*keys.last().unwrap(), ("slow", true));
    keys.sort_unstable();
    assert_eq!(keys, [("odd", false), ("quick", true), ("slow", true)]);
}

#[tokio::test]
async fn map_keyed_takes_options_a_window_and_refuses_with_a_key() {
    let pool = pool();
    let items = || (0..100_u64).map(|x| (x.to_string(), x));
    let options = TaskOptions::new().retries(1);
    let doubled = |x: u64| async move { x * 2 };
    let results = pool.with(options).map_keyed(doubled, items()).window(3);
    for (i, (key, result)) in in_time(results.results()).await.into_iter().enumerate() {
        assert_eq!((key, result.unwrap()), (i.to_string(), 2 * i as u64));
    }
    pool.close();
    let refused = in_time(pool.map_keyed(doubled, items()).results()).await;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].0, "0");
    assert!(matches!(refused[0].1, Err(TaskError::PoolClosed { .. })), "{refused:?}");
    let wrong = TaskOptions::new().priority(200);
    let refused = in_time(pool.with(wrong).map_keyed(doubled, items()).results()).await;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].0, "0");
    let nothing: [(u8, u64); 0] = [];
    assert!(in_time(pool.with(wrong).map_keyed(doubled, nothing).results()).await.is_empty());
}
