//! What the two parsers take from a page, and what they refuse.

use aiopool_scrape::{Book, parse};
use reqwest::Url;

fn list(html: &str) -> anyhow::Result<Vec<String>> {
    parse::list(html, &Url::parse("http://shop.test/catalogue/page-1.html").unwrap())
}

#[test]
fn list_gives_links_in_order_and_absolute() {
    let html = r#"<a href="no-book.html">x</a>
        <article class="product_pod new"><div class="image_container wide">
            <a href="first_1/index.html"><img></a></div>
            <h3><a href="title-link/index.html">First</a></h3></article>
        <article class="product_pod"><div class="image_container"><p><a href="../up_2/">x</a></p></div></article>
        <article class="product_pod"><div class="image_container"><a>no address</a></div></article>
        <article class="other"><div class="image_container"><a href="other/">x</a></div></article>
        <div class="image_container"><a href="loose/">x</a></div>
        <article class="product_pod"><div class="image_container">
            <a href="http://else.where/b%20k?x=1&amp;y=2">x</a></div></article>"#;
    assert_eq!(
        list(html).unwrap(),
        [
            "http://shop.test/catalogue/first_1/index.html",
            "http://shop.test/up_2/",
            "http://else.where/b%20k?x=1&y=2",
        ]
    );
}

#[test]
fn list_without_books_is_refused() {
    for html in ["", "<html><body><p>Come back later", "\u{0}\u{fffd}<<<>>&&", "{\"json\": 1}"] {
        let error = list(html).unwrap_err().to_string();
        assert!(error.contains("no book on the list page"), "{error}");
    }
}

#[test]
fn list_with_a_senseless_link_is_refused_and_names_it() {
    let html = r#"<article class="product_pod"><div class="image_container">
        <a href="http://[not-an-address/">x</a></div></article>"#;
    let error = format!("{:#}", list(html).unwrap_err());
    assert!(error.contains("http://[not-an-address/"), "{error}");
}

#[test]
fn detail_gives_the_text_of_title_price_and_description() {
    let html = r#"<h1>Not this</h1><p class="price_color">£0.01</p>
        <div class="col product_main"><h1> Salt &amp; “Silver”: <em>Ein
 Märchen</em> </h1><p class="price_color">£51.77</p><p class="price_color">£99.00</p></div>
        <div id="product_description"><h2>Product Description</h2><p>Not this</p></div>
        <p>Two  spaces, a "quote", an <b>em</b>phasis – and £.</p><p>Not this</p>"#;
    let book = parse::detail(html).unwrap();
    assert_eq!(book.title, "Salt & “Silver”: Ein\n Märchen");
    assert_eq!(book.price, "£51.77");
    assert_eq!(book.description, "Two  spaces, a \"quote\", an emphasis – and £.");
}

#[test]
fn detail_without_description_has_an_empty_one() {
    let main = r#"<div class="product_main"><h1>T</h1><p class="price_color">£1</p></div>"#;
    let apart = r#"<div id="product_description"></div><table></table><p>far away</p>"#;
    for html in [main.to_owned(), format!("{main}{apart}")] {
        let book = parse::detail(&html).unwrap();
        let wanted = Book { title: "T".into(), price: "£1".into(), description: String::new() };
        assert_eq!(book, wanted);
    }
}

#[test]
fn detail_without_title_or_price_is_refused_and_says_which() {
    let cases = [
        ("", "no title"),
        (r#"<div class="product_main"><p class="price_color">£1</p></div>"#, "no title"),
        (r#"<div class="product_main"><h1> </h1><p class="price_color">£1</p></div>"#, "no title"),
        (r#"<div class="product_main"><h1>T</h1></div><p class="price_color">£1</p>"#, "no price"),
        (r#"<div class="product_main"><h1>T"#, "no price"),
    ];
    for (html, wanted) in cases {
        let error = parse::detail(html).unwrap_err().to_string();
        assert!(error.contains(wanted), "{html}: {error}");
    }
}
