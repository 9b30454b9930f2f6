//! What all pages share: head, header, foot, and the escaping of text.

use std::fmt::{self, Display, Write};

use super::words::CATEGORIES;

/// Text as it is written into HTML, also inside of double quotes.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// Folder name of a category's pages.
pub(super) fn category_folder(category: usize) -> String {
    let words = CATEGORIES[category].to_lowercase();
    let words: Vec<&str> =
        words.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    format!("category/books/{}_{}", words.join("-"), category + 2)
}

/// Opens a page. `up` leads from its folder to the top of the site.
pub(super) fn open(page: &mut String, title: &str, about: &str, up: &str) {
    let (title, about) = (Text(title), Text(about));
    write!(
        page,
        r#"<!DOCTYPE html>
<!--[if lt IE 9]>      <html lang="en-us" class="no-js old"> <![endif]-->
<!--[if gt IE 8]><!--> <html lang="en-us" class="no-js"> <!--<![endif]-->
    <head>
        <title>
    {title} | The Paper Harbour – a book shop for machines
</title>

        <meta http-equiv="content-type" content="text/html; charset=UTF-8" />
        <meta name="created" content="24th Jun 2016 09:29" />
        <meta name="description" content="
    {about}
" />
        <meta name="viewport" content="width=device-width" />
        <meta name="robots" content="NOARCHIVE,NOCACHE" />

        <!-- Le HTML5 shim, for old browsers -->
        <!--[if lt IE 9]>
        <script src="{up}static/html5.js"></script>
        <![endif]-->

            <link rel="shortcut icon" href="{up}static/shop/favicon.ico" />
            <link rel="stylesheet" type="text/css" href="{up}static/shop/css/styles.css" />
    <link rel="stylesheet" href="{up}static/shop/js/datetimepicker/datetimepicker.css" />
    <link rel="stylesheet" type="text/css" href="{up}static/shop/css/datetimepicker.css" />
    </head>

    <body id="default" class="default">

    <header class="header container-fluid">
        <div class="page_inner">
            <div class="row">
                <div class="col-sm-8 h1"><a href="{up}index.html">The Paper Harbour</a><small> – every book is invented.</small>
</div>
            </div>
        </div>
    </header>

    <div class="container-fluid page">
<div class="page_inner">
"#
    )
    .expect("writing to a string does not fail");
}

/// Closes a page.
pub(super) fn close(page: &mut String, up: &str) {
    write!(
        page,
        r#"
</div><!-- /page_inner -->
    </div><!-- /container-fluid -->

<footer class="footer container-fluid">
    <p>No book here can be bought. Prices in £, ratings in ★, both without meaning.</p>
</footer>

        <!-- The page is readable without any of these. -->
            <script src="{up}static/jquery/jquery-1.9.1.min.js"></script>
        <script>window.jQuery || document.write('<script src="{up}static/jquery/jquery-1.9.1.min.js"><\/script>')</script>
        <script type="text/javascript" src="{up}static/shop/js/bootstrap3/bootstrap.min.js"></script>
        <script src="{up}static/shop/js/ui.js" type="text/javascript" charset="utf-8"></script>
        <script src="{up}static/shop/js/datetimepicker/datetimepicker.js" type="text/javascript" charset="utf-8"></script>
        <script type="text/javascript">
            $(function() {{ shop.init(); }});
        </script>
        <!-- Version: N/A -->
    </body>
</html>
"#
    )
    .expect("writing to a string does not fail");
}
