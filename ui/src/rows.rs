//! Bringing a list on screen up to date, row by row.
//!
//! Replacing a whole model would rebuild every row, lose what is selected and
//! move what is being read. So only the rows that differ are touched.

use slint::{Model, VecModel};

/// Makes `model` hold exactly `rows`.
///
/// `same` tells whether two rows are about the same thing; it is only used to
/// notice that rows left or came at the front, which spares the rest. The
/// outcome is right whatever it says.
pub(crate) fn reconcile<T>(model: &VecModel<T>, rows: Vec<T>, same: impl Fn(&T, &T) -> bool)
where
    T: Clone + PartialEq + 'static,
{
    align_front(model, &rows, same);
    let kept = model.row_count().min(rows.len());
    while model.row_count() > rows.len() {
        model.remove(model.row_count() - 1);
    }
    for (index, row) in rows.into_iter().enumerate() {
        if index >= kept {
            model.push(row);
        } else if model.row_data(index).is_none_or(|shown| shown != row) {
            model.set_row_data(index, row);
        }
    }
}

/// Removes rows that left at the front, or adds those that came there.
fn align_front<T>(model: &VecModel<T>, rows: &[T], same: impl Fn(&T, &T) -> bool)
where
    T: Clone + 'static,
{
    let (Some(first_shown), Some(first)) = (model.row_data(0), rows.first()) else {
        return;
    };
    if same(&first_shown, first) {
        return;
    }
    if let Some(left) = model.iter().position(|shown| same(&shown, first)) {
        for _ in 0..left {
            model.remove(0);
        }
    } else if let Some(came) = rows.iter().position(|row| same(&first_shown, row)) {
        for (index, row) in rows[..came].iter().enumerate() {
            model.insert(index, row.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (u32, &'static str);

    fn check(before: &[Row], after: &[Row]) {
        let model = VecModel::from(before.to_vec());
        reconcile(&model, after.to_vec(), |a, b| a.0 == b.0);
        assert_eq!(model.iter().collect::<Vec<_>>(), after);
    }

    #[test]
    fn every_kind_of_change() {
        let rows = [(1, "a"), (2, "b"), (3, "c")];
        check(&[], &rows);
        check(&rows, &[]);
        check(&rows, &rows);
        check(&rows, &[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
        check(&rows, &[(2, "b"), (3, "c"), (4, "d")]);
        check(&rows[1..], &rows);
        check(&rows, &[(1, "a"), (3, "c")]);
        check(&rows, &[(1, "a"), (2, "B"), (3, "c")]);
        check(&rows, &[(7, "x"), (8, "y")]);
        check(&rows, &[(3, "c"), (2, "b"), (1, "a")]);
        check(&[(1, "a"), (1, "a")], &[(2, "b"), (1, "a"), (1, "c")]);
    }
}
