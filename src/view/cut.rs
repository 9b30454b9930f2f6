//! Texts that have to fit into a number of bytes, cut between two characters.

/// Returns the start of `text` that fits into `longest` bytes.
pub(crate) fn cut(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Cuts `text` to `longest` bytes, with an ellipsis behind them where something was left out.
pub(crate) fn shortened(text: String, longest: usize) -> String {
    if text.len() <= longest { text } else { format!("{}…", cut(&text, longest)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("später", 3), "sp");
        assert_eq!(cut("später", 4), "spä");
        assert_eq!(cut("später", 100), "später");
        assert_eq!(cut("ä", 0), "");
        assert_eq!(shortened("später".into(), 7), "später");
        assert_eq!(shortened("später".into(), 3), "sp…");
    }
}
