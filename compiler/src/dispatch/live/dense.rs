//! A class's value of dense cells.

use crate::address::Class;
use crate::image::Store;

/// Appends the stores that give a class these words, one for each column; of narrow
/// ones two go into a store. The value is filled up to eight bytes with zeros.
pub(super) fn store(words: &[u32], is_narrow: bool, map: u32, class: Class, stores: &mut Vec<Store>) {
    let mut put = |at: usize, value: u32| {
        stores.push(Store { map, index: class.as_u32(), offset: at as u32 * 4, value });
    };
    if is_narrow {
        for (at, pair) in words.chunks(2).enumerate() {
            put(at, pair[0] & 0xffff | pair.get(1).map_or(0, |high| high << 16));
        }
    } else {
        words.iter().enumerate().for_each(|(at, word)| put(at, *word));
    }
}
