//! Orders to update.

use super::*;

const SYSTEM: &str = "/nix/store/0c2rnmvx8q4kbqh1sb0bsqm5xsbv8sqq-nixos-system-board";

fn order() -> Order {
    Order::new("b1", SYSTEM, 7, false).unwrap()
}

fn signed() -> SignedOrder {
    authority(9).sign_order(None, &order()).unwrap()
}

/// As it is signed, with something changed in its text.
fn changed(from: &str, to: &str) -> SignedOrder {
    let text = serde_json::to_string(&signed()).unwrap();
    assert!(text.contains(from), "no {from} in {text}");
    serde_json::from_str(&text.replacen(from, to, 1)).unwrap()
}

#[test]
fn an_order_is_followed_if_the_fleets_key_has_signed_it_for_this_board() {
    assert_eq!(signed().verified(&[public(8), public(9)], "b1").unwrap(), order());
    for trusted in [&[public(8)][..], &[]] {
        assert!(matches!(signed().verified(trusted, "b1"), Err(BadOrder::Signature)));
    }
    let other = signed().verified(&[public(9)], "b2").unwrap_err();
    assert!(matches!(other, BadOrder::OtherBoard { .. }), "{other}");
    assert!(other.to_string().contains("b1") && other.to_string().contains("b2"), "{other}");
}

#[test]
fn while_the_key_is_replaced_a_board_that_knows_either_follows() {
    let both = authority(9).sign_order(Some(&authority(8)), &order()).unwrap();
    for known in [8, 9] {
        assert_eq!(both.verified(&[public(known)], "b1").unwrap(), order());
    }
    assert!(both.verified(&[public(7)], "b1").is_err());
}

#[test]
fn a_tampered_order_is_refused() {
    for (from, to) in [
        ("nixos-system-board", "nixos-system-other"),
        ("\\\"number\\\":7", "\\\"number\\\":8"),
        ("\\\"now\\\":false", "\\\"now\\\":true"),
        ("\\\"b1\\\"", "\\\"b2\\\""),
    ] {
        let error = changed(from, to).verified(&[public(9)], "b2").unwrap_err();
        assert!(matches!(error, BadOrder::Signature), "{from}: {error}");
    }
}

#[test]
fn what_was_signed_as_something_else_is_no_order() {
    let roster = authority(9).sign(&Roster::new(public(9), NOW_S)).unwrap();
    let roster = serde_json::to_value(roster).unwrap();
    let as_order =
        serde_json::json!({"order": roster["roster"], "signatures": roster["signatures"]});
    let as_order: SignedOrder = serde_json::from_value(as_order).unwrap();
    assert!(matches!(as_order.verified(&[public(9)], "b1"), Err(BadOrder::Signature)));
}

#[test]
fn only_a_path_directly_in_the_store_can_be_ordered() {
    for path in ["/tmp/x", "/nix/store", "/nix/store/x", &format!("{SYSTEM}/bin"), "../x", ""] {
        assert!(matches!(Order::new("b1", path, 1, false), Err(BadOrder::Path(_))), "{path}");
    }
}

#[test]
fn a_signed_order_of_another_version_or_with_more_in_it_is_refused() {
    let text = |order: serde_json::Value| {
        let text = order.to_string();
        let signatures =
            super::super::signature::sign("roost-update@roost", &text, &[&private(9)]).unwrap();
        let signed = serde_json::json!({"order": text, "signatures": signatures});
        let signed: SignedOrder = serde_json::from_value(signed).unwrap();
        signed.verified(&[public(9)], "b1").unwrap_err().to_string()
    };
    let mut order = serde_json::to_value(order()).unwrap();
    order["version"] = 2.into();
    assert!(text(order.clone()).contains("version 2 instead of 1"));
    order["version"] = 1.into();
    order["more"] = 1.into();
    assert!(text(order.clone()).contains("makes no sense"));
    order["more"] = "x".repeat(5000).into();
    assert!(text(order).contains("too long"));
}
