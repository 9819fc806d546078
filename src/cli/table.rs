//! Rows under headings, for people.

/// Rows under headings, columns as wide as they need.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// No rows yet.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// One more row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Without the first column when it says nothing: on a server that is one broker nobody asks on which.
    #[must_use]
    pub fn without_empty_first(mut self) -> Self {
        let says = |row: &Vec<String>| row.first().is_some_and(|cell| !cell.is_empty());
        if !self.rows.iter().skip(1).any(says) {
            for row in self.rows.iter_mut().filter(|row| !row.is_empty()) {
                row.remove(0);
            }
        }
        self
    }

    /// Without trailing blanks, so that a table can be compared.
    #[must_use]
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let mut table = Table::new(&["NAME", "QUEUES"]);
        table.row(vec!["a-long-name".to_owned(), "8".to_owned()]);
        table.row(vec!["b".to_owned(), String::new()]);
        assert_eq!(table.text(), "NAME         QUEUES\na-long-name  8\nb");
    }

    #[test]
    fn a_first_column_goes_only_when_no_row_fills_it() {
        let table = |broker: &str| {
            let mut table = Table::new(&["BROKER", "QUEUE"]);
            table.row(vec![broker.to_owned(), "0".to_owned()]);
            table.row(vec![String::new(), "1".to_owned()]);
            table.without_empty_first().text()
        };
        assert_eq!(table(""), "QUEUE\n0\n1");
        assert_eq!(table("b"), "BROKER  QUEUE\nb       0\n        1");
        assert_eq!(Table::new(&["BROKER", "QUEUE"]).without_empty_first().text(), "QUEUE");
    }
}
