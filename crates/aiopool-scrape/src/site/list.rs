//! The list pages: sidebar, twenty products, pager.

use std::fmt::Write;

use super::frame::{self, Text, category_folder};
use super::shop::{BOOKS_PER_PAGE, LIST_PAGES, Shop, Volume};
use super::words::CATEGORIES;

const STARS: [&str; 6] = ["Zero", "One", "Two", "Three", "Four", "Five"];
const MAX_SHOWN: usize = 35;

/// List page `number`, counted from 1.
pub(super) fn page(shop: &Shop, number: u32) -> String {
    let first = ((number - 1) * BOOKS_PER_PAGE) as usize;
    let volumes = &shop.volumes()[first..first + BOOKS_PER_PAGE as usize];
    let mut page = String::with_capacity(64 << 10);
    frame::open(&mut page, "All products", "Every product of the shop", "../");
    sidebar(&mut page);
    write!(
        page,
        r#"
        <div class="col-sm-8 col-md-9">

<div class="page-header action">
    <h1>All products</h1>
</div>

<div id="messages">

</div>

<div id="promotions">

</div>

    <form method="get" class="form-horizontal">
        <div style="display:none">
        </div>
            <strong>{}</strong> results - showing <strong>{}</strong> to <strong>{}</strong>.
    </form>

        <section>
            <div class="alert alert-warning" role="alert"><strong>Warning!</strong> This is a shop for practice. Prices and ratings here were drawn at random and “mean” nothing.</div>

            <div>
                <ol class="row">
"#,
        shop.volumes().len(),
        first + 1,
        first + volumes.len(),
    )
    .expect("writing to a string does not fail");
    for volume in volumes {
        product(&mut page, volume, "");
    }
    page.push_str("\n                </ol>\n");
    pager(&mut page, number);
    page.push_str(
        "\n            </div>\n        </section>\n\n        </div>\n\n    </div><!-- /row -->\n",
    );
    frame::close(&mut page, "../");
    page
}

fn sidebar(page: &mut String) {
    page.push_str(
        r#"
    <ul class="breadcrumb">
        <li>
            <a href="../index.html">Home</a>
        </li>
        <li class="active">All products</li>
    </ul>

    <div class="row">

        <aside class="sidebar col-sm-4 col-md-3">

        <div id="promotions_left">

        </div>

        <div class="side_categories">
            <ul class="nav nav-list">

                    <li>
                        <a href="category/books_1/index.html">

                                Books

                        </a>

                        <ul>
"#,
    );
    for (category, name) in CATEGORIES.iter().enumerate() {
        write!(
            page,
            r#"
                        <li>
                            <a href="{}/index.html">

                                    {}

                            </a>

                        </li>
"#,
            category_folder(category),
            Text(name)
        )
        .expect("writing to a string does not fail");
    }
    page.push_str(
        r#"
                        </ul></li>

            </ul>
        </div>

        </aside>
"#,
    );
}

/// One product as the lists show it; `up` leads to the folder of the detail pages.
pub(super) fn product(page: &mut String, volume: &Volume, up: &str) {
    let (slug, code) = (&volume.slug, volume.code);
    write!(
        page,
        r#"
                    <li class="col-xs-6 col-sm-4 col-md-3 col-lg-3">

    <article class="product_pod">

            <div class="image_container">

                    <a href="{up}{slug}/index.html"><img src="{up}../media/cache/{:02x}/{:02x}/{code:016x}{:016x}.jpg" alt="{}" class="thumbnail"></a>

            </div>


                <p class="star-rating {}">
                        <i class="icon-star" aria-hidden="true"></i>
                        <i class="icon-star" aria-hidden="true"></i>
                        <i class="icon-star" aria-hidden="true"></i>
                        <i class="icon-star" aria-hidden="true"></i>
                        <i class="icon-star" aria-hidden="true"></i>
                </p>

            <h3><a href="{up}{slug}/index.html" title="{}">{}</a></h3>

            <div class="product_price">

        <p class="price_color">{}</p>

<p class="instock availability">
    <i class="icon-ok"></i>

        In stock

</p>

                    <form action="{up}basket/add/{}/" method="post" class="add-to-basket">

                        <input type="hidden" name="csrfmiddlewaretoken" value="{:032x}" />
                        <input type="hidden" name="quantity" value="1" />

                        <button type="submit" class="btn btn-primary btn-block" data-loading-text="Adding...">Add to basket</button>

                    </form>

            </div>

    </article>

</li>
"#,
        code >> 56,
        code >> 48 & 0xff,
        code.rotate_left(17),
        Text(&volume.book.title),
        STARS[volume.stars],
        Text(&volume.book.title),
        Text(&shown(&volume.book.title)),
        Text(&volume.book.price),
        volume.number,
        u128::from(code) << 64 | u128::from(!code),
    )
    .expect("writing to a string does not fail");
}

/// Long titles are cut in the lists; only the detail page has the whole.
fn shown(title: &str) -> String {
    match title.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{} ...", title[..at].trim_end()),
        None => title.to_owned(),
    }
}

fn pager(page: &mut String, number: u32) {
    page.push_str("\n    <div>\n        <ul class=\"pager\">\n");
    let mut link = |class, to, text| {
        writeln!(
            page,
            "\n                <li class=\"{class}\"><a href=\"page-{to}.html\">{text}</a></li>"
        )
        .expect("writing to a string does not fail");
    };
    if number > 1 {
        link("previous", number - 1, "previous");
    }
    if number < LIST_PAGES {
        link("next", number + 1, "next");
    }
    writeln!(
        page,
        r#"
            <li class="current">

                Page {number} of {LIST_PAGES}

            </li>

        </ul>
    </div>"#
    )
    .expect("writing to a string does not fail");
}
