//! Small bar charts made of table cells, which every mail program displays. Mail programs strip SVG, block remote images, and
//! list embedded images as attachments.

use std::fmt::Write;

/// The tallest bar, in pixels.
const HEIGHT_PX: u64 = 28;

/// A bar for each value, as the bottom borders of the cells of one row. The last bar is darker if it is the new one.
pub(super) fn bars(values: &[u64], last_is_new: bool) -> String {
    let top = values.iter().copied().max().unwrap_or(0).max(1);
    let mut html = String::from(
        "<table cellpadding=\"2\" cellspacing=\"1\" style=\"color:#9fb6cf;font-size:1px;line-height:1px\">\
         <tr style=\"vertical-align:bottom\">",
    );
    for (at, value) in values.iter().enumerate() {
        // The quotient is at most HEIGHT_PX.
        let height_px = (u128::from(*value) * u128::from(HEIGHT_PX)).div_ceil(u128::from(top)).max(1);
        let colour = if last_is_new && at + 1 == values.len() { ";color:#1f4e79" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(html, "<td style=\"border-bottom:{height_px}px solid{colour}\"></td>");
    }
    html.push_str("</tr></table>");
    html
}

#[cfg(test)]
mod tests {
    use super::bars;

    #[test]
    fn the_tallest_bar_is_the_largest_value() {
        let html = bars(&[0, 50, 100, u64::MAX], true);
        assert_eq!(html.matches("border-bottom:1px").count(), 3);
        assert_eq!(html.matches("border-bottom:28px solid;color:#1f4e79").count(), 1);
        assert!(bars(&[], true).ends_with("<tr style=\"vertical-align:bottom\"></tr></table>"));
        assert!(bars(&[50, 100], false).contains("border-bottom:28px solid\""));
    }
}
