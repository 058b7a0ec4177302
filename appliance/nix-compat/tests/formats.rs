//! Texts: nixbase32, hashes, store paths, derivation files, and what derivations tell a scheduler.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod generate;

use std::collections::{BTreeMap, BTreeSet};

use nix_compat::{
    derivation::{self, AtermFault, BasicDerivation, Derivation, DerivationOutput},
    nixbase32,
    nixhash::{HashAlgo, HashError, NixHash},
    store_path::{StorePath, StorePathError},
};
use proptest::{collection::vec, prelude::*};

const HELLO: &str = "/nix/store/pdgvychqn30wkp77x67nhzz80p0yl5r0-hello-2.12.drv";

proptest! {
    #[test]
    fn nixbase32_reads_back(bytes in vec(any::<u8>(), 0..70)) {
        let text = nixbase32::encode(&bytes);
        prop_assert_eq!(text.len(), nixbase32::encoded_len(bytes.len()));
        prop_assert!(text.bytes().all(nixbase32::is_digit));
        prop_assert_eq!(nixbase32::decode(&text).unwrap(), bytes);
    }

    #[test]
    fn nixbase32_has_one_text_for_each_value(text in "[0-9a-df-np-sv-z]{0,40}") {
        if let Ok(bytes) = nixbase32::decode(&text) {
            prop_assert_eq!(nixbase32::encode(&bytes), text);
        }
    }

    #[test]
    fn hashes_read_back_in_every_notation(digest in vec(any::<u8>(), 64), n in 0..4usize) {
        let algo = HashAlgo::ALL[n];
        let hash = NixHash::new(algo, digest[..algo.digest_len()].to_vec()).unwrap();
        let base16 = hash.to_base16();
        prop_assert_eq!(&NixHash::parse(&hash.to_nix32()).unwrap(), &hash);
        prop_assert_eq!(&NixHash::parse(&hash.to_sri()).unwrap(), &hash);
        prop_assert_eq!(&NixHash::parse(&format!("{}:{base16}", algo.name())).unwrap(), &hash);
        prop_assert_eq!(&NixHash::parse_any(algo, &base16).unwrap(), &hash);
        prop_assert_eq!(&NixHash::parse_any(algo, &hash.to_string()).unwrap(), &hash);
    }

    #[test]
    fn store_paths_read_back(path in generate::store_path()) {
        prop_assert_eq!(&path.to_string().parse::<StorePath>().unwrap(), &path);
        prop_assert_eq!(&StorePath::from_base_name(path.base_name()).unwrap(), &path);
        prop_assert_eq!(format!("{}-{}", path.hash_part(), path.name()), path.base_name());
        let json = serde_json::to_string(&path).unwrap();
        prop_assert_eq!(serde_json::from_str::<StorePath>(&json).unwrap(), path);
    }

    #[test]
    fn any_text_is_judged_without_harm(text in ".{0,60}") {
        let _ = nixbase32::decode(&text);
        let _ = NixHash::parse(&text);
        let _ = StorePath::parse(&text);
        let _ = StorePath::from_base_name(&text);
    }
}

#[test]
fn nixbase32_is_nixs() {
    let digest = NixHash::sha256(b"").to_nix32();
    assert_eq!(digest, "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73");
    assert_eq!(nixbase32::encode(&[]), "");
    assert_eq!(nixbase32::encode(&[0x1f]), "0z");
    for wrong in ["e", "0", "zz", "0ß"] {
        assert!(nixbase32::decode(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn hashes_of_another_kind_are_refused() {
    let sha1 = NixHash::new(HashAlgo::Sha1, vec![0; 20]).unwrap().to_nix32();
    assert!(NixHash::parse_any(HashAlgo::Sha256, &sha1).is_err());
    assert!(matches!(NixHash::parse("crc:00"), Err(HashError::UnknownAlgorithm(_))));
    assert!(matches!(NixHash::parse("sha256:00"), Err(HashError::BadDigest { .. })));
    assert!(NixHash::new(HashAlgo::Sha256, vec![0; 31]).is_err());
}

#[test]
fn store_paths_are_checked() {
    let path: StorePath = HELLO.parse().unwrap();
    assert_eq!(path.name(), "hello-2.12.drv");
    assert_eq!(path.hash_part(), "pdgvychqn30wkp77x67nhzz80p0yl5r0");
    assert!(path.is_derivation());
    assert_eq!(derivation::name(&path), "hello-2.12");

    let hash = "/nix/store/pdgvychqn30wkp77x67nhzz80p0yl5r0";
    let long = "x".repeat(211);
    for name in ["a", ".gitignore", "..a", "A+_?=", &long] {
        assert!(StorePath::parse(&format!("{hash}-{name}")).is_ok(), "{name}");
    }
    let longer = "x".repeat(212);
    for name in ["", ".", "..", ".-a", "..-a", "a/b", "a b", "ä", "a\0", &longer] {
        let parsed = StorePath::parse(&format!("{hash}-{name}"));
        assert!(matches!(parsed, Err(StorePathError::BadName(_))), "{name}");
    }
    let bad_hash = [hash.to_owned(), format!("{hash}a-b"), hash.replace('p', "e") + "-a"];
    for path in &bad_hash {
        assert!(matches!(StorePath::parse(path), Err(StorePathError::BadHashPart(_))), "{path}");
    }
    for path in ["", "/nix/store", "/nix/storepdgvychqn30wkp77x67nhzz80p0yl5r0-a", "relative"] {
        assert!(matches!(StorePath::parse(path), Err(StorePathError::NotInStore(_))), "{path}");
    }
    assert!(serde_json::from_str::<StorePath>("\"/etc/passwd\"").is_err());
}

#[test]
fn a_derivation_file_is_read_as_nix_writes_it() {
    let aterm = format!(
        r#"Derive([("out","/nix/store/ri7146rn9s6fi5gc84jgsiy1j3naczna-top","",""),("src","","r:sha256","")],[("{HELLO}",["dev","out"])],["/nix/store/k0ydap2gnlqw0a6m6239x5qf7x0asfmn-tree"],"x86_64-linux","/bin/sh",["-c","echo \"a\\b\"\t\n"],[("name","top"),("out","")])"#
    );
    let drv = Derivation::parse(aterm.as_bytes()).unwrap();
    assert_eq!(drv.args[1], b"echo \"a\\b\"\t\n");
    assert_eq!(drv.outputs["src"].path, None);
    assert_eq!(drv.input_drvs[&HELLO.parse::<StorePath>().unwrap()].len(), 2);
    assert_eq!(drv.required_system_features(), BTreeSet::from(["ca-derivations".to_owned()]));
    assert_eq!(String::from_utf8(drv.to_aterm()).unwrap(), aterm);
    let input: StorePath = "/nix/store/00000000000000000000000000000000-dev".parse().unwrap();
    let basic = drv.clone().into_basic([input.clone()]);
    assert_eq!(basic.input_srcs.len(), 2);
    assert!(basic.input_srcs.contains(&input));
}

#[test]
fn what_is_no_derivation_file_is_told_from_one() {
    let fault = |aterm: &str| Derivation::parse(aterm.as_bytes()).unwrap_err();
    let dynamic = fault(r#"DrvWithVersion("xp-dyn-drv",[],[],[],"","",[],[])"#);
    assert_eq!(dynamic.fault, AtermFault::Dynamic);
    assert_eq!(fault("").fault, AtermFault::Expected("Derive("));
    let twice = fault(r#"Derive([],[],[],"","",[],[("a",""),("a","")])"#);
    assert_eq!((twice.offset, twice.fault), (35, AtermFault::Duplicate("a variable")));
    let trailing = fault(r#"Derive([],[],[],"","",[],[]) "#);
    assert_eq!((trailing.offset, trailing.fault), (28, AtermFault::Expected("end of file")));
    assert_eq!(fault(r#"Derive([],[],[],"x"#).fault, AtermFault::OpenString);
    let bad_path = fault(r#"Derive([],[],["/etc"],"","",[],[])"#);
    assert!(matches!(bad_path.fault, AtermFault::BadStorePath(_)));
}

/// A derivation with these variables.
fn with_env(env: &[(&str, &str)]) -> BasicDerivation {
    let path = Some("/nix/store/ri7146rn9s6fi5gc84jgsiy1j3naczna-top".parse().unwrap());
    let output = DerivationOutput { path, hash_algo: String::new(), hash: String::new() };
    let bytes = |text: &str| text.as_bytes().to_vec();
    BasicDerivation {
        outputs: BTreeMap::from([("out".to_owned(), output)]),
        input_srcs: BTreeSet::new(),
        platform: "riscv64-linux".to_owned(),
        builder: Vec::new(),
        args: Vec::new(),
        env: env.iter().map(|(key, value)| (bytes(key), bytes(value))).collect(),
    }
}

fn features(env: &[(&str, &str)]) -> Vec<String> {
    with_env(env).required_system_features().into_iter().collect()
}

#[test]
fn features_are_found_in_plain_and_structured_attributes() {
    assert!(features(&[]).is_empty());
    assert_eq!(
        features(&[("requiredSystemFeatures", " kvm  big-parallel ")]),
        ["big-parallel", "kvm"]
    );
    let json = r#"{"big": [{}], "requiredSystemFeatures": ["kvm", "nixos-test"]}"#;
    assert_eq!(features(&[("__json", json)]), ["kvm", "nixos-test"]);
    // With structured attributes the variables count for nothing.
    assert!(features(&[("__json", "{}"), ("requiredSystemFeatures", "kvm")]).is_empty());
    for malformed in ["", "[]", "{", r#"{"requiredSystemFeatures": "kvm"}"#] {
        assert!(features(&[("__json", malformed)]).is_empty(), "{malformed}");
    }
}

#[test]
fn flags_are_found_in_plain_and_structured_attributes() {
    assert!(!with_env(&[]).prefer_local_build());
    assert!(with_env(&[]).allow_substitutes());
    assert!(with_env(&[("preferLocalBuild", "1")]).prefer_local_build());
    assert!(!with_env(&[("preferLocalBuild", "true")]).prefer_local_build());
    assert!(!with_env(&[("allowSubstitutes", "")]).allow_substitutes());
    let json = r#"{"preferLocalBuild": true, "allowSubstitutes": false}"#;
    assert!(with_env(&[("__json", json)]).prefer_local_build());
    assert!(!with_env(&[("__json", json)]).allow_substitutes());
}
