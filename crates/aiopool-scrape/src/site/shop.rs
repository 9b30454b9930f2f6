//! The books of the shop: invented from a seed, always the same.

use std::ops::Range;

use super::random::Random;
use super::words::{
    ADJECTIVES, CATEGORIES, NAMES, NOUNS, OBJECTS, PLACES, PRAISE, SUBJECTS, TURNS, VERBS,
};
use crate::Book;

/// How many list pages the shop has.
pub const LIST_PAGES: u32 = 50;
/// How many books are on each of them.
pub const BOOKS_PER_PAGE: u32 = 20;

const BOOKS: u32 = LIST_PAGES * BOOKS_PER_PAGE;
const SEED: u64 = 0x0a10_b00c;
const DESCRIPTION_WORDS: Range<u64> = 140..300;

/// One book of the shop, with all that its pages show.
#[derive(Clone, Debug)]
pub struct Volume {
    /// What a scrape should find.
    pub book: Book,
    /// Number on the shelf: 1,000 for the first book, 1 for the last, as on the model.
    pub(super) number: u32,
    /// Folder name of its detail page.
    pub(super) slug: String,
    /// Index into the categories.
    pub(super) category: usize,
    pub(super) stars: usize,
    pub(super) stock: u64,
    pub(super) reviews: u64,
    /// Code of the product, also used for the names of its pictures.
    pub(super) code: u64,
}

/// All books, in the order of the list pages.
#[derive(Clone, Debug)]
pub struct Shop {
    volumes: Vec<Volume>,
}

impl Shop {
    /// Invents the shop; every call gives the same one.
    pub fn new() -> Self {
        Self { volumes: (0..BOOKS).map(|index| volume(BOOKS - index)).collect() }
    }

    /// All books in the order of the list pages.
    pub fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    /// What a scrape of the first `pages` list pages should find, row by row.
    pub fn books(&self, pages: u32) -> impl Iterator<Item = &Book> {
        self.volumes.iter().take((pages * BOOKS_PER_PAGE) as usize).map(|volume| &volume.book)
    }
}

impl Default for Shop {
    fn default() -> Self {
        Self::new()
    }
}

fn volume(number: u32) -> Volume {
    // A seed of its own for each book: changing how one is made leaves the others alone.
    let mut random = Random::new(SEED ^ u64::from(number) << 32);
    let title = title(&mut random);
    let pence = random.within(1_000..6_000);
    let price = format!("£{}.{:02}", pence / 100, pence % 100);
    let description = if number.is_multiple_of(83) { String::new() } else { prose(&mut random) };
    Volume {
        number,
        slug: format!("{}_{number}", slug(&title)),
        category: random.within(0..CATEGORIES.len() as u64) as usize,
        stars: random.within(1..6) as usize,
        stock: random.within(1..23),
        reviews: random.within(0..4),
        code: random.next(),
        book: Book { title, price, description },
    }
}

fn title(random: &mut Random) -> String {
    let (adjective, noun) = (random.pick(&ADJECTIVES), random.pick(&NOUNS));
    match random.within(0..8) {
        0 => format!("The {adjective} {noun}"),
        1 => format!("The {noun} of {}", random.pick(&PLACES)),
        2 => format!("{} and the {adjective} {noun}", random.pick(&NAMES)),
        3 => format!("A {noun} in {}: The Story of {}", random.pick(&PLACES), random.pick(&NAMES)),
        4 => format!(
            "{adjective} {noun} (The {} Cycle #{})",
            random.pick(&NOUNS),
            random.within(1..8)
        ),
        5 => format!("“{adjective} {noun}” & Other Stories from {}", random.pick(&PLACES)),
        6 => format!("How {} Built a {adjective} {noun}", random.pick(&NAMES)),
        _ => format!("{}’s {noun}, or: {adjective} Days – A Novel", random.pick(&NAMES)),
    }
}

/// Sentences until there are some hundred words, in one paragraph as on the model.
fn prose(random: &mut Random) -> String {
    let wanted = random.within(DESCRIPTION_WORDS) as usize;
    let mut text = String::with_capacity(8 * wanted);
    let mut words = 0;
    while words < wanted {
        let sentence = sentence(random);
        words += sentence.split(' ').count();
        text.push_str(&sentence);
        text.push(' ');
    }
    text.push_str("...more");
    text
}

fn sentence(random: &mut Random) -> String {
    let (name, place) = (random.pick(&NAMES), random.pick(&PLACES));
    let (subject, verb) = (random.pick(&SUBJECTS), random.pick(&VERBS));
    let (object, turn) = (random.pick(&OBJECTS), random.pick(&TURNS));
    match random.within(0..6) {
        0 => format!("In {place}, {subject} {verb} {object} {turn}."),
        1 => format!("When {name} {verb} {object}, it is {turn} – or so the story goes."),
        2 => format!("{name} says: “Nobody {verb} {object} {turn}.”"),
        3 => format!("But {subject} {verb} {object}; and {name} knows it."),
        4 => format!(
            "What if {subject} {verb} {object}, {turn}, and {name} never came back from {place}?"
        ),
        _ => format!("{} ({name}, author of “The {}”)", random.pick(&PRAISE), random.pick(&NOUNS)),
    }
}

/// The title as a name of a folder: ASCII letters and digits, the rest is a hyphen.
fn slug(title: &str) -> String {
    let mut slug = String::with_capacity(title.len());
    for c in title.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}
