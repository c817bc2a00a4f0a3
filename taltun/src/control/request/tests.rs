use super::*;
use crate::layer::Layer;

#[test]
fn requests_are_on_the_socket_what_they_have_always_been() {
    let ban = |layer, force, seconds| {
        let net = "10.0.0.0/8".parse().unwrap();
        Request::Ban(Ban {
            net,
            layer,
            force,
            seconds,
        })
    };
    let ban_peer = |layer| {
        Request::BanPeer(BanPeer {
            peer: "ana".into(),
            layer,
            force: false,
            seconds: Some(3),
        })
    };
    let unban = |layer| {
        let net = "10.0.0.0/8".parse().unwrap();
        Request::Unban(Unban { net, layer })
    };
    let unban_peer = |layer| {
        let peer = "ana".into();
        Request::UnbanPeer(UnbanPeer { peer, layer })
    };
    for (request, json) in [
        (Request::Status, r#""status""#),
        (Request::Stats, r#""stats""#),
        (Request::Export, r#""export""#),
        (Request::Reload, r#""reload""#),
        (
            ban(None, false, None),
            r#"{"ban":{"net":"10.0.0.0/8","inner":false,"outer":false,"force":false,"seconds":null}}"#,
        ),
        (
            ban(Some(Layer::Inner), true, Some(3)),
            r#"{"ban":{"net":"10.0.0.0/8","inner":true,"outer":false,"force":true,"seconds":3}}"#,
        ),
        (
            ban(Some(Layer::Outer), false, None),
            r#"{"ban":{"net":"10.0.0.0/8","inner":false,"outer":true,"force":false,"seconds":null}}"#,
        ),
        (
            ban_peer(Layer::Inner),
            r#"{"ban_peer":{"peer":"ana","outer":false,"force":false,"seconds":3}}"#,
        ),
        (
            ban_peer(Layer::Outer),
            r#"{"ban_peer":{"peer":"ana","outer":true,"force":false,"seconds":3}}"#,
        ),
        (
            unban(Layer::Inner),
            r#"{"unban":{"net":"10.0.0.0/8","inner":true}}"#,
        ),
        (
            unban_peer(Layer::Outer),
            r#"{"unban_peer":{"peer":"ana","outer":true}}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&request).unwrap(), json);
        let back: Request = serde_json::from_str(json).unwrap();
        assert_eq!(back, request);
    }
    // What needn't be there.
    for (json, request) in [
        (r#"{"ban":{"net":"10.0.0.0/8"}}"#, ban(None, false, None)),
        (
            r#"{"ban_peer":{"peer":"ana","seconds":3}}"#,
            ban_peer(Layer::Inner),
        ),
        (r#"{"unban":{"net":"10.0.0.0/8"}}"#, unban(Layer::Outer)),
        (r#"{"unban_peer":{"peer":"ana"}}"#, unban_peer(Layer::Inner)),
    ] {
        assert_eq!(serde_json::from_str::<Request>(json).unwrap(), request);
    }
}

#[test]
fn unknown_fields_are_refused() {
    for json in [
        r#"{"ban":{"net":"10.0.0.0/8","surprise":1}}"#,
        r#"{"ban_peer":{"peer":"ana","surprise":1}}"#,
        r#"{"unban":{"net":"10.0.0.0/8","surprise":1}}"#,
        r#"{"unban_peer":{"peer":"ana","surprise":1}}"#,
    ] {
        let refused = serde_json::from_str::<Request>(json).unwrap_err();
        assert!(refused.to_string().contains("surprise"), "{refused}");
    }
}
