//! A snapshot's file: damaged, or anybody's.

use bytes::Bytes;
use concoord_core::durable::Snapshot;
use concoord_core::snapshot::{About, read, read_about, write};
use concoord_core::view::ClusterId;

use super::input::Input;

/// A file that no one wrote is read without a panic; one that was written is read as it was, and
/// is refused after any damage.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.below(2) == 0 {
        let file = input.rest();
        drop(read_about(&mut &*file));
        if let Ok((about, snapshot)) = read(&mut &*file, file.len() as u64) {
            assert!(snapshot.size() < file.len(), "it holds no more than the file");
            let mut again = Vec::new();
            write(&about, &snapshot, &mut again).expect("memory takes all bytes");
            let back = read(&mut &*again, again.len() as u64).expect("it was just written");
            assert_eq!(back, (about, snapshot));
        }
    } else {
        written(&mut input);
    }
}

fn written(input: &mut Input<'_>) {
    let cluster = [None, Some(ClusterId(input.number()))][input.below(2)];
    let [class, runtime] = [0; 2].map(|_: u8| "x".repeat(input.below(300)));
    let (lineage, written_ms) = (input.any_number(), input.any_number());
    let about = About { class, runtime, cluster, lineage, written_ms };
    let state = Bytes::from(vec![input.byte(); input.below(5000)]);
    let object = [None, Some(Bytes::from(vec![input.byte(); input.below(5000)]))];
    let [none, some] = object;
    let object = if input.below(2) == 0 { none } else { some };
    let snapshot = Snapshot { index: input.any_number(), term: input.any_number(), state, object };
    let mut file = Vec::new();
    write(&about, &snapshot, &mut file).expect("memory takes all bytes");
    let whole = file.clone();
    match input.below(4) {
        0 => {}
        1 => file.truncate(input.below(file.len())),
        2 => file.push(input.byte()),
        _ => {
            let at = input.below(file.len());
            file[at..].iter_mut().take(4).for_each(|byte| *byte ^= input.byte());
        }
    }
    let back = read(&mut &*file, file.len() as u64);
    if file == whole {
        assert_eq!(read_about(&mut &*file).expect("it is whole"), about);
        assert_eq!(back.expect("it is whole"), (about, snapshot));
    } else {
        back.expect_err("it is damaged");
    }
}
