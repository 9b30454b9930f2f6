//! State in the workers, and the two ways to start them.
//!
//!     cargo run --example spawn

use std::collections::HashMap;

use aiopool::{Pool, StartMethod, WorkerContext};

type Dictionary = HashMap<String, String>;

/// Runs once in each worker: what it loads, every task of that worker finds.
async fn load(language: String) -> Result<(), String> {
    let words = match language.as_str() {
        "de" => [("one", "eins"), ("two", "zwei")],
        other => return Err(format!("there is no dictionary for {other}")),
    };
    let words = words.map(|(word, meaning)| (word.to_owned(), meaning.to_owned()));
    let context = WorkerContext::current().ok_or("no worker")?;
    context.set_state(Dictionary::from(words));
    Ok(())
}

async fn translate(word: String) -> Option<String> {
    WorkerContext::current()?.state::<Dictionary>()?.get(&word).cloned()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Optional, and first thing in `main`: workers that are forked share the memory of this moment.
    aiopool::init()?;
    for (name, method) in [("fork", StartMethod::Fork), ("spawn", StartMethod::Spawn)] {
        let pool = Pool::builder()
            .processes(2)
            .start_method(method)
            .initializer(load, "de".to_owned())
            .build()?;
        let words = ["one", "two"].map(String::from);
        let meanings = aiopool::block_on(pool.map(translate, words))?;
        println!("{name}: {meanings:?}");
    }
    // An initializer that fails everywhere fails the pool, with its own words.
    let pool = Pool::builder().processes(1).initializer(load, "xx".to_owned()).build();
    let error = match pool {
        Ok(pool) => pool.apply(translate, "one".to_owned()).wait().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    println!("{error}");
    Ok(())
}
