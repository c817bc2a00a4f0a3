//! Who gets in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use taltun_fleet::etcd::{Error, Tls};
use tokio::time::sleep;

use crate::cluster::{Cluster, store};

/// Certificates as operators make them, with a common name each.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = "
            set -e
            ca() {
                openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                    -subj /CN=$1 -keyout $1.key -out $1.pem \
                    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign
            }
            sign() {
                openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
                    -subj /CN=$2 -keyout $2.key -out $2.csr
                printf 'extendedKeyUsage=%s\\nsubjectAltName=%s\\nbasicConstraints=CA:FALSE\\n' $3 $4 \
                    > $2.ext
                openssl x509 -req -in $2.csr -CA $1.pem -CAkey $1.key -CAcreateserial -days 2 \
                    -extfile $2.ext -out $2.pem
            }
            ca ca; ca other
            sign ca server serverAuth IP:127.0.0.1
            sign ca hub clientAuth DNS:hub
            sign other thief clientAuth DNS:hub
        ";
        let made = Command::new("sh")
            .args(["-c", script])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{errors}");
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn tls(&self, ca: &str, own: Option<&str>) -> Tls {
        let files = own.map(|own| {
            let file = |ending| self.path(&format!("{own}.{ending}"));
            (file("pem"), file("key"))
        });
        let own = files
            .as_ref()
            .map(|(cert, key)| (cert.as_path(), key.as_path()));
        Tls::read(&self.path(ca), own).unwrap()
    }
}

pub async fn only_who_has_the_certificates_gets_in() {
    let made = Certificates::make();
    let options = [
        "--client-cert-auth",
        "--trusted-ca-file",
        &made.text("ca.pem"),
        "--cert-file",
        &made.text("server.pem"),
        "--key-file",
        &made.text("server.key"),
    ];
    let cluster = Cluster::with("https", 1, &options).await;
    let endpoints = [cluster.endpoint(0)];
    // A certificate with a common name, which etcd's HTTP gateway would refuse.
    let good = store(&endpoints, Some(made.tls("ca.pem", Some("hub"))));
    let mut last = None;
    for _ in 0..100 {
        last = Some(good.put("/a", b"1", 0).await);
        if last == Some(Ok(())) {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(last, Some(Ok(())));
    assert_eq!(good.get("/a").await.unwrap().unwrap().value, "1");
    let elsewhere = endpoints[0].replace("127.0.0.1", "localhost");
    for (endpoint, tls, part) in [
        (
            &endpoints[0],
            made.tls("other.pem", Some("hub")),
            "UnknownIssuer",
        ),
        (
            &elsewhere,
            made.tls("ca.pem", Some("hub")),
            "NotValidForName",
        ),
        (&endpoints[0], made.tls("ca.pem", None), "ertificate"),
        (
            &endpoints[0],
            made.tls("ca.pem", Some("thief")),
            "ertificate",
        ),
    ] {
        let error = store(std::slice::from_ref(endpoint), Some(tls))
            .get("/a")
            .await;
        let error = error.unwrap_err();
        println!("{part}: {error}");
        let text = error
            .to_string()
            .replace("not valid for name", "NotValidForName");
        assert!(text.contains(part), "{part}: {error}");
        assert!(text.contains(endpoint), "{error}");
    }
    let error = store(&endpoints, None).get("/a").await.unwrap_err();
    assert!(error.to_string().contains("CA"), "{error}");
    for wrong in ["hub.key", "missing.pem"] {
        let error = Tls::read(&made.path(wrong), None).unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
    let swapped = (made.path("hub.pem"), made.path("server.key"));
    let own: (&Path, &Path) = (&swapped.0, &swapped.1);
    assert!(Tls::read(&made.path("ca.pem"), Some(own)).is_err());
}

pub async fn without_an_etcd_user_nothing_is_read() {
    let cluster = Cluster::start(1).await;
    let store = cluster.store();
    store.put("/a", b"1", 0).await.unwrap();
    cluster.ctl(&["user", "add", "root:secret"]);
    cluster.ctl(&["user", "grant-role", "root", "root"]);
    cluster.ctl(&["auth", "enable"]);
    let error = store.get("/a").await.unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error}");
    let error = store.put("/a", b"2", 0).await.unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error}");
}
