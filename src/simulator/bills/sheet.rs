//! Comma-separated text, cell by cell: columns can be left out, renamed or turned round without the
//! rows knowing.

use std::borrow::Cow;

/// A header and the rows under it.
#[derive(Debug)]
pub(in crate::simulator) struct Sheet {
    /// Which cell of a row stands where.
    order: Vec<usize>,
    /// In front of every cell.
    mark: &'static str,
    end: &'static str,
}

impl Sheet {
    /// Writes the header: `names` has one entry for each cell of a row, `None` leaves it out.
    pub(in crate::simulator) fn begin(
        text: &mut String,
        names: &[Option<&str>],
        turned: bool,
        mark: &'static str,
        end: &'static str,
    ) -> Self {
        let mut order: Vec<usize> = (0..names.len())
            .filter(|index| names[*index].is_some())
            .collect();
        if turned {
            order.reverse();
        }
        let header: Vec<&str> = order.iter().filter_map(|index| names[*index]).collect();
        text.push_str(&header.join(","));
        text.push_str(end);
        Self { order, mark, end }
    }

    pub(in crate::simulator) fn row(&self, text: &mut String, cells: &[Cow<'_, str>]) {
        for (place, index) in self.order.iter().enumerate() {
            if place > 0 {
                text.push(',');
            }
            text.push_str(self.mark);
            text.push_str(cells.get(*index).map_or("", |cell| cell));
        }
        text.push_str(self.end);
    }
}
