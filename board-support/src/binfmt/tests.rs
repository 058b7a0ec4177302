use proptest::prelude::*;

use super::*;

/// QEMU's entry for an architecture, as the kernel shows it.
fn qemu(magic: &str, mask: &str) -> String {
    format!(
        "enabled\ninterpreter /usr/bin/qemu\nflags: OCF\noffset 0\nmagic {magic}\nmask {mask}\n"
    )
}

const LE_MASK: &str = "ffffffffffffff00fffffffffffffffffeffffff";
const BE_MASK: &str = "ffffffffffffff00fffffffffffffffffffeffff";
const X86_MASK: &str = "fffffffffffefe00fffffffffffffffffeffffff";
const AARCH64: &str = "7f454c460201010000000000000000000200b700";

#[track_caller]
fn runs(entry: &str, systems: &[&str]) {
    assert_eq!(Entry::parse(entry.as_bytes()).unwrap().systems(), systems, "{entry}");
}

#[test]
fn entries_are_read_as_the_kernel_writes_them() {
    let text = qemu(AARCH64, LE_MASK);
    let entry = Entry::parse(text.as_bytes()).unwrap();
    assert!(entry.enabled);
    assert_eq!((entry.interpreter, entry.flags), ("/usr/bin/qemu", "OCF"));
    assert_eq!(entry.systems(), ["aarch64-linux"]);
    let more = text.replace("enabled", "disabled").replace("OCF", "OCFX") + "colour blue\n\n";
    let entry = Entry::parse(more.as_bytes()).unwrap();
    assert!(!entry.enabled);
    assert_eq!((entry.flags, entry.systems()), ("OCFX", &["aarch64-linux"][..]));
}

#[test]
fn architectures_are_told_by_class_byte_order_and_machine() {
    for (magic, mask, systems) in [
        ("7f454c460201010000000000000000000200f300", LE_MASK, &["riscv64-linux"][..]),
        ("7f454c460101010000000000000000000200f300", LE_MASK, &["riscv32-linux"]),
        ("7f454c4602010100000000000000000002003e00", X86_MASK, &["x86_64-linux"]),
        ("7f454c4601010100000000000000000002000300", X86_MASK, &["i686-linux"]),
        ("7f454c4601010100000000000000000002000600", X86_MASK, &["i686-linux"]),
        ("7f454c4602020100000000000000000000020015", BE_MASK, &["powerpc64-linux"]),
        ("7f454c4602010100000000000000000002001500", LE_MASK, &["powerpc64le-linux"]),
        ("7f454c4602020100000000000000000000020016", BE_MASK, &["s390x-linux"]),
        ("7f454c4602010100000000000000000002000201", LE_MASK, &["loongarch64-linux"]),
        ("7f454c4601020100000000000000000000020008", BE_MASK, &["mips-linux"]),
        ("7f454c4602010100000000000000000002000800", LE_MASK, &["mips64el-linux"]),
        ("7f454c46020201000000000000000000000200b7", BE_MASK, &["aarch64_be-linux"]),
        // x32, and a machine that Nix has no word for.
        ("7f454c4601010100000000000000000002003e00", X86_MASK, &[]),
        ("7f454c4601020100000000000000000000020f0f", BE_MASK, &[]),
    ] {
        runs(&qemu(magic, mask), systems);
    }
    let arm =
        Entry::parse(b"enabled\ninterpreter /q\nmagic 7f454c4601010100000000000000000002002800\n");
    assert!(arm.unwrap().systems().starts_with(&["armv7l-linux"]));
    assert!(arm.unwrap().systems().contains(&"armv6l-linux"));
}

#[test]
fn what_the_mask_leaves_open_is_not_relied_on() {
    for (at, bits) in
        [(0, "00"), (3, "7f"), (4, "fc"), (5, "00"), (5, "fc"), (18, "00"), (18, "fe")]
    {
        let mut mask = LE_MASK.to_owned();
        mask.replace_range(2 * at..2 * at + 2, bits);
        runs(&qemu(AARCH64, &mask), &[]);
    }
    // The upper byte of the machine tells no two architectures apart.
    runs(&qemu(&AARCH64[..38], &LE_MASK[..38]), &["aarch64-linux"]);
    runs(&qemu(&AARCH64[..36], &LE_MASK[..36]), &[]);
}

#[test]
fn entries_for_other_things_than_programs_run_no_system() {
    runs("enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n", &[]);
    runs("enabled\ninterpreter /usr/bin/python3.11\nflags: \noffset 0\nmagic a70d0d0a\n", &[]);
    runs("enabled\ninterpreter /init\nflags: PF\noffset 0\nmagic 4d5a\n", &[]);
    // Object files, FreeBSD's programs, and a header that is not at the start.
    runs(&qemu("7f454c460201010000000000000000000100b700", &LE_MASK.replace("fe", "ff")), &[]);
    runs(&qemu("7f454c460201010900000000000000000200b700", &"f".repeat(40)), &[]);
    runs(&qemu(AARCH64, LE_MASK).replace("offset 0", "offset 4"), &[]);
}

#[test]
fn of_the_mips_abis_only_the_common_one_is_taken() {
    // QEMU looks at e_flags to tell n32, which Nix has no word for, from o32.
    let o32 = "7f454c46010101000000000000000000020008000000000000000000000000000000000000000000";
    let n32 = "7f454c46010101000000000000000000020008000000000000000000000000000000000020000000";
    let mask = "ffffffffffffff00fffffffffffffffffeffffff0000000000000000000000000000000020000000";
    runs(&qemu(o32, mask), &["mipsel-linux"]);
    runs(&qemu(n32, mask), &[]);
}

#[test]
fn entries_that_make_no_sense_are_none() {
    for bad in [
        "",
        "enabled\n",
        "perhaps\ninterpreter /q\n",
        "enabled\ninterpreter \n",
        "enabled\ninterpreter /q\nmagic 7f4\n",
        "enabled\ninterpreter /q\nmagic xx\n",
        "enabled\ninterpreter /q\nmagic 7f45\nmask ff\n",
        "enabled\ninterpreter /q\noffset -1\nmagic 7f45\n",
        "enabled\ninterpreter /q\noffset 99999999999999999999\nmagic 7f45\n",
    ] {
        assert_eq!(Entry::parse(bad.as_bytes()), None, "{bad:?}");
    }
    assert_eq!(Entry::parse(b"enabled\ninterpreter /\xff\n"), None);
}

#[test]
fn status_gates_all() {
    assert_eq!(status("enabled\n"), Some(true));
    assert_eq!(status("disabled"), Some(false));
    assert_eq!(status(""), None);
}

proptest! {
    #[test]
    fn any_entry_runs_what_is_in_the_table_or_nothing(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        magic in "(7f454c46)?[0-9a-f]{0,80}",
        mask in "(f{8})?[0-9a-f]{0,80}",
        offset in 0usize..1000,
    ) {
        let len = magic.len().min(mask.len()) & !1;
        let shown = format!(
            "enabled\ninterpreter /q\noffset {offset}\nmagic {}\nmask {}\n", &magic[..len], &mask[..len]
        );
        for file in [noise, shown.into_bytes()] {
            let Some(entry) = Entry::parse(&file) else { continue };
            prop_assert!(entry.systems().iter().all(|found| systems().any(|known| known == *found)));
        }
    }

    #[test]
    fn an_entry_never_runs_programs_that_it_does_not_match(
        which in 0..ARCHITECTURES.len(),
        bits in proptest::collection::vec(any::<u8>(), elf::LEN),
    ) {
        let header = ARCHITECTURES[which].0.header(2, 0);
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let file = qemu(&hex(&header), &hex(&bits));
        let systems = Entry::parse(file.as_bytes()).unwrap().systems();
        prop_assert!(systems.is_empty() || systems == ARCHITECTURES[which].1);
    }
}
