//! One suite for both forms of the file seam: what the code relies on in memory must hold on the operating system's files.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bolide::store::files::memory::MemoryFiles;
use bolide::store::files::{Files, LockError, OpenMode, create_dir_durably, read_small, real, write_small_durably};

/// Runs `check` on an empty directory of each form.
fn on_both(check: impl Fn(Arc<dyn Files>, &Path)) {
    let memory = MemoryFiles::new(1);
    let root = Path::new("root");
    create_dir_durably(&memory, root).unwrap();
    check(memory.life(), root);
    let root = tempfile::tempdir().unwrap();
    check(real(), root.path());
}

#[test]
fn files_are_opened_only_as_the_mode_says() {
    on_both(|files, root| {
        let path = root.join("file");
        for mode in [OpenMode::Read, OpenMode::ReadWrite] {
            assert_eq!(files.open(&path, mode).unwrap_err().kind(), ErrorKind::NotFound);
        }
        let created = files.open(&path, OpenMode::CreateNew).unwrap();
        created.write_all_at(b"first", 0).unwrap();
        assert_eq!(files.open(&path, OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let reader = files.open(&path, OpenMode::Read).unwrap();
        assert_eq!(reader.read_at(0, 5).unwrap(), &b"first"[..]);
        assert!(reader.write_all_at(b"x", 0).is_err(), "a file opened for reading was written");
        let orphan = root.join("missing/file");
        assert_eq!(files.open(&orphan, OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn reads_and_writes_meet_at_their_offsets() {
    on_both(|files, root| {
        let file = files.open(&root.join("file"), OpenMode::CreateNew).unwrap();
        file.write_all_at(b"world", 6).unwrap();
        assert_eq!(file.len().unwrap(), 11);
        assert_eq!(file.read_at(0, 11).unwrap(), &b"\0\0\0\0\0\0world"[..], "a gap reads as zeros");
        file.write_all_at(b"hello ", 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.read_at(3, 5).unwrap(), &b"lo wo"[..]);
        assert_eq!(file.read_at(7, 5).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(file.read_at(11, 0).unwrap().len(), 0);
    });
}

#[test]
fn lengths_grow_with_zeros_and_reserving_never_shortens() {
    on_both(|files, root| {
        let file = files.open(&root.join("file"), OpenMode::CreateNew).unwrap();
        file.write_all_at(&[7; 10], 0).unwrap();
        file.allocate(100).unwrap();
        assert_eq!(file.len().unwrap(), 100);
        assert_eq!(file.read_at(5, 10).unwrap(), [[7; 5], [0; 5]].concat());
        file.allocate(50).unwrap();
        assert_eq!(file.len().unwrap(), 100);
        file.set_len(8).unwrap();
        file.set_len(12).unwrap();
        assert_eq!(file.read_at(6, 6).unwrap(), &[7, 7, 0, 0, 0, 0][..], "cut bytes came back");
    });
}

#[test]
fn a_view_shows_later_writes_inside_its_length_and_nothing_outside() {
    on_both(|files, root| {
        let file = files.open(&root.join("file"), OpenMode::CreateNew).unwrap();
        file.allocate(1_000).unwrap();
        let view = file.view().unwrap();
        file.write_all_at(b"tail", 996).unwrap();
        assert_eq!(view.read(996, 4).unwrap(), &b"tail"[..]);
        let early = view.read(996, 4).unwrap();
        view.release();
        assert_eq!(early, &b"tail"[..]);
        file.write_all_at(b"beyond", 1_000).unwrap();
        assert_eq!(view.read(998, 4).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(view.read(u64::MAX, 1).is_err());
        assert_eq!(view.read(1_000, 0).unwrap().len(), 0);
    });
}

#[test]
fn names_move_and_vanish_as_told() {
    on_both(|files, root| {
        for name in ["b", "a", "c"] {
            files.open(&root.join(name), OpenMode::CreateNew).unwrap().write_all_at(name.as_bytes(), 0).unwrap();
        }
        assert_eq!(files.list(root).unwrap(), ["a", "b", "c"]);
        let held = files.open(&root.join("b"), OpenMode::Read).unwrap();
        files.rename(&root.join("a"), &root.join("b")).unwrap();
        files.sync_dir(root).unwrap();
        assert_eq!(files.list(root).unwrap(), ["b", "c"]);
        assert_eq!(read_small(files.as_ref(), &root.join("b")).unwrap(), &b"a"[..], "the target was not replaced");
        assert_eq!(held.read_at(0, 1).unwrap(), &b"b"[..], "an open file follows its bytes, not its name");
        files.remove(&root.join("c")).unwrap();
        assert!(!files.exists(&root.join("c")));
        assert_eq!(files.remove(&root.join("c")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(files.rename(&root.join("c"), &root.join("d")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(files.list(&root.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(files.sync_dir(&root.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn directories_are_made_and_removed_with_all_that_is_in_them() {
    on_both(|files, root| {
        let deep = root.join("x/y/z");
        create_dir_durably(files.as_ref(), &deep).unwrap();
        create_dir_durably(files.as_ref(), &deep).unwrap();
        write_small_durably(files.as_ref(), &deep.join("note"), b"1").unwrap();
        write_small_durably(files.as_ref(), &deep.join("note"), b"22").unwrap();
        assert_eq!(read_small(files.as_ref(), &deep.join("note")).unwrap(), &b"22"[..]);
        assert_eq!(files.list(&deep).unwrap(), ["note"]);
        assert_eq!(files.list(root).unwrap(), ["x"]);
        files.remove_dir_all(&root.join("x")).unwrap();
        assert!(!files.exists(&deep));
        assert_eq!(files.remove_dir_all(&root.join("x")).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_lock_has_one_holder_and_is_free_after_it() {
    on_both(|files, root| {
        let path = root.join("LOCK");
        let held = files.lock(&path, "the first").unwrap();
        let Err(LockError::Held { holder, .. }) = files.lock(&path, "the second") else { panic!("locked twice") };
        assert_eq!(holder, "the first");
        drop(held);
        drop(files.lock(&path, "the second").unwrap());
    });
}

#[test]
fn the_room_on_the_disk_is_known() {
    on_both(|files, root| {
        let space = files.space(root).unwrap();
        assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes);
        assert!((0.0..1.0).contains(&space.used_ratio()));
    });
}
