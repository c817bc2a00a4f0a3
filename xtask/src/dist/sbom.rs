//! What the program is built of, as a bill of materials in `CycloneDX`'s form.

use anyhow::{Context, Result};
use serde_json::json;

use crate::built_of::Package;

/// The bill of materials, as `CycloneDX` 1.5.
pub fn cyclone_dx(packages: &[Package]) -> Result<String> {
    let component = |package: &Package| {
        let mut component = json!({
            "type": "library",
            "name": package.name,
            "version": package.version,
        });
        // Ours are in no registry.
        if package.source.is_some() {
            component["purl"] = json!(format!("pkg:cargo/{}@{}", package.name, package.version));
        }
        if let Some(license) = &package.license {
            component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
        }
        component
    };
    let own = packages.iter().find(|package| package.name == "taltun");
    let own = own.context("a bill without the program")?;
    let others = packages.iter().filter(|package| *package != own);
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "name": own.name,
            "version": own.version,
            "licenses": [{ "expression": own.license }],
        } },
        "components": others.map(component).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&bill)? + "\n")
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "clippy doesn't take all helpers for tests"
    )]

    use super::*;
    use crate::built_of::packages_of;

    #[test]
    fn what_is_built_in_is_listed_and_what_tests_need_is_not() {
        let package = |name: &str, source| {
            json!({
                "id": format!("{name} id"), "name": name, "version": "1.0.0",
                "license": "MIT/Apache-2.0", "manifest_path": format!("/x/{name}/Cargo.toml"),
                "source": source,
            })
        };
        let on = |name: &str, kind: Option<&str>| json!({ "pkg": format!("{name} id"), "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [
                package("taltun", None), package("a", Some("registry")),
                package("b", Some("registry")), package("tested", Some("registry")),
            ],
            "resolve": { "nodes": [
                { "id": "taltun id", "deps": [on("b", None), on("tested", Some("dev"))] },
                { "id": "b id", "deps": [on("a", None)] },
                { "id": "a id", "deps": [] },
                { "id": "tested id", "deps": [] },
            ] },
        });
        let found = packages_of(&serde_json::from_value(metadata).unwrap(), "taltun").unwrap();
        let names: Vec<&str> = found.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "taltun"]);
        assert!(found[2].source.is_none() && found[0].source.is_some());
        let bill: serde_json::Value = serde_json::from_str(&cyclone_dx(&found).unwrap()).unwrap();
        assert_eq!(bill["metadata"]["component"]["name"], "taltun");
        assert_eq!(bill["components"].as_array().unwrap().len(), 2);
        assert_eq!(
            bill["components"][0]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
    }
}
