//! Breadth first through every state, then backwards from those in which everything rests.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::moves::steps;
use crate::world::{Config, World};

/// What a search came to.
#[derive(Debug)]
pub struct Found {
    pub states: usize,
    /// False where the limit on states ended the search.
    pub complete: bool,
    /// What is wrong, and the steps that lead there; a fault has an exclamation mark.
    pub violation: Option<(String, Vec<String>)>,
}

/// A state's name: two hashes of 64 bits.
fn fingerprint(world: &World) -> u128 {
    let mut first = DefaultHasher::new();
    world.hash(&mut first);
    let mut second = DefaultHasher::new();
    (0x9e37_79b9_u64, world).hash(&mut second);
    (u128::from(first.finish()) << 64) | u128::from(second.finish())
}

pub fn search(config: &Config, limit: usize) -> Found {
    let start = World::new(config);
    let mut numbers = HashMap::from([(fingerprint(&start), 0_u32)]);
    let mut parents = vec![(0_u32, 0_u16)];
    let mut rests = vec![start.rests(config)];
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut layer = vec![(0_u32, start)];
    while !layer.is_empty() {
        let mut next = Vec::new();
        for (from, world) in &layer {
            for (index, (_, world, fault)) in steps(world, config).into_iter().enumerate() {
                if let Some(what) = world.broken {
                    let mut path = path(config, &parents, *from);
                    path.push(index as u16);
                    let violation = Some((what, tell(config, &path)));
                    return Found { states: numbers.len(), complete: false, violation };
                }
                let count = numbers.len() as u32;
                let number = *numbers.entry(fingerprint(&world)).or_insert(count);
                if number == count {
                    parents.push((*from, index as u16));
                    rests.push(world.rests(config));
                    next.push((number, world));
                }
                if !fault {
                    edges.push((*from, number));
                }
            }
            if numbers.len() > limit {
                return Found { states: numbers.len(), complete: false, violation: None };
            }
        }
        layer = next;
    }
    let states = numbers.len();
    let stuck = stuck(states, &edges, rests);
    let violation = stuck.map(|(count, first)| {
        let what = format!("{count} states cannot come to rest");
        (what, tell(config, &path(config, &parents, first)))
    });
    Found { states, complete: true, violation }
}

/// How many states cannot come to rest without another fault, and the first of them.
fn stuck(states: usize, edges: &[(u32, u32)], mut good: Vec<bool>) -> Option<(usize, u32)> {
    let mut starts = vec![0_usize; states + 1];
    edges.iter().for_each(|edge| starts[edge.1 as usize + 1] += 1);
    (0..states).for_each(|i| starts[i + 1] += starts[i]);
    let mut filled = starts.clone();
    let mut before = vec![0_u32; edges.len()];
    for &(from, to) in edges {
        before[filled[to as usize]] = from;
        filled[to as usize] += 1;
    }
    let mut open: Vec<u32> = (0..states as u32).filter(|&i| good[i as usize]).collect();
    while let Some(state) = open.pop() {
        for &from in &before[starts[state as usize]..starts[state as usize + 1]] {
            if !std::mem::replace(&mut good[from as usize], true) {
                open.push(from);
            }
        }
    }
    let first = good.iter().position(|good| !good)? as u32;
    Some((good.iter().filter(|good| !**good).count(), first))
}

fn path(_: &Config, parents: &[(u32, u16)], mut state: u32) -> Vec<u16> {
    let mut path = Vec::new();
    while state != 0 {
        let (from, index) = parents[state as usize];
        path.push(index);
        state = from;
    }
    path.reverse();
    path
}

fn tell(config: &Config, path: &[u16]) -> Vec<String> {
    let mut world = World::new(config);
    let mut story = Vec::new();
    for &index in path {
        let (label, next, fault) = steps(&world, config).swap_remove(index.into());
        story.push(format!("{}{label}", if fault { "! " } else { "" }));
        world = next;
    }
    story
}
