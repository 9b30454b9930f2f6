//! The detail pages: picture, price, description, product table, products seen before.

use std::fmt::Write;

use super::frame::{self, Text, category_folder};
use super::list;
use super::shop::{Shop, Volume};
use super::words::CATEGORIES;

/// How many other products are shown below; their price must not be taken for the page's own.
const SEEN_BEFORE: usize = 1;

/// The detail page of the book at `index`.
pub(super) fn page(shop: &Shop, index: usize) -> String {
    let volume = &shop.volumes()[index];
    let book = &volume.book;
    let mut page = String::with_capacity(16 << 10);
    let about = if book.description.is_empty() { "No description" } else { &book.description };
    frame::open(&mut page, &book.title, about, "../../");
    breadcrumb(&mut page, volume);
    product_main(&mut page, volume);
    if !book.description.is_empty() {
        write!(
            page,
            r#"
        <div id="product_description" class="sub-header">
            <h2>Product Description</h2>
        </div>
        <p>{}</p>
"#,
            Text(&book.description)
        )
        .expect("writing to a string does not fail");
    }
    table(&mut page, volume);
    page.push_str(
        r#"
        <section>
            <div id="reviews" class="sub-header">
            </div>
        </section>

        <div class="sub-header"><h2>Products you recently viewed</h2></div>
            <ul class="row">
"#,
    );
    let others = shop.volumes().iter().cycle().skip(index + 1);
    for other in others.take(SEEN_BEFORE) {
        list::product(&mut page, other, "../");
    }
    page.push_str("\n            </ul>\n\n</article><!-- End of product page -->\n");
    frame::close(&mut page, "../../");
    page
}

fn breadcrumb(page: &mut String, volume: &Volume) {
    write!(
        page,
        r#"
<ul class="breadcrumb">
    <li>
        <a href="../../index.html">Home</a>
    </li>
        <li>
            <a href="../category/books_1/index.html">Books</a>
        </li>
        <li>
            <a href="../{}/index.html">{}</a>
        </li>
        <li class="active">{}</li>
</ul>

<div id="messages">

</div>
"#,
        category_folder(volume.category),
        Text(CATEGORIES[volume.category]),
        Text(&volume.book.title),
    )
    .expect("writing to a string does not fail");
}

fn product_main(page: &mut String, volume: &Volume) {
    let title = Text(&volume.book.title);
    write!(
        page,
        r#"
<div class="content">

<div id="promotions">

</div>

        <div id="content_inner">

<article class="product_page"><!-- Start of product page -->

    <div class="row">

        <div class="col-sm-6">

        <div id="product_gallery" class="carousel">
            <div class="thumbnail">
                <div class="carousel-inner">
                    <div class="item active">
                            <img src="../../media/cache/{:02x}/{:016x}{:016x}.jpg" alt="{title}" />
                    </div>
                </div>
            </div>
        </div>

        </div>

        <div class="col-sm-6 product_main">

            <h1>{title}</h1>

        <p class="price_color">{}</p>

<p class="instock availability">
    <i class="icon-ok"></i>

        In stock ({} available)

</p>

    <p class="star-rating star-{}">
        <!-- <small><a href="../reviews/index.html">{} customer reviews</a></small> -->
    </p>

            <hr/>

            <div class="alert alert-warning" role="alert"><strong>Warning!</strong> This is a shop for practice. Prices and ratings here were drawn at random and “mean” nothing.</div>

        </div><!-- /col-sm-6 -->

    </div><!-- /row -->
"#,
        volume.code & 0xff,
        volume.code.rotate_left(9),
        volume.code.rotate_left(31),
        Text(&volume.book.price),
        volume.stock,
        volume.stars,
        volume.reviews,
    )
    .expect("writing to a string does not fail");
}

fn table(page: &mut String, volume: &Volume) {
    let price = &volume.book.price;
    write!(
        page,
        r#"
    <div class="sub-header">
        <h2>Product Information</h2>
    </div>
    <table class="table table-striped">
            <tr>
                <th>UPC</th><td>{:016x}</td>
            </tr>
            <tr>
                <th>Product Type</th><td>Books</td>
            </tr>
                <tr>
                    <th>Price (excl. tax)</th><td>{price}</td>
                </tr>
                    <tr>
                        <th>Price (incl. tax)</th><td>{price}</td>
                    </tr>
                    <tr>
                        <th>Tax</th><td>£0.00</td>
                    </tr>
            <tr>
                <th>Availability</th>
                <td>In stock ({} available)</td>
            </tr>
                <tr>
                    <th>Number of reviews</th>
                    <td>{}</td>
                </tr>
    </table>
"#,
        volume.code, volume.stock, volume.reviews,
    )
    .expect("writing to a string does not fail");
}
