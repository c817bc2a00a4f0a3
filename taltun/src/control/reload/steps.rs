//! The steps of a reload that can fail. They are taken in turn; when one fails, those before it are
//! undone, the last one first, and all is as it was.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::Interface;

/// A change that can fail, and that can be undone.
#[derive(Debug)]
pub(super) enum Step {
    /// The host's routes into the tunnel.
    Routes {
        before: Box<Interface>,
        after: Box<Interface>,
        /// Where peers are, which routes lead around.
        endpoints: Vec<IpAddr>,
    },
    /// Where we listen.
    Listen {
        before: SocketAddr,
        after: SocketAddr,
    },
}

/// What the steps change.
pub(super) trait StepTarget {
    /// Leads the routes of `to` into the tunnel instead of `from`, and around it to `endpoints`.
    async fn change_routes(
        &mut self,
        from: &[IpNet],
        to: &Interface,
        endpoints: &[IpAddr],
    ) -> Result<(), String>;

    /// Listens at another address.
    fn listen(&mut self, address: SocketAddr) -> Result<(), String>;

    /// Lets the gateway, the metrics and the page follow the configuration, or none of them; tells
    /// what became of them.
    async fn follow_services(&mut self) -> Result<Vec<String>, String>;
}

/// Takes all steps, or none. The gateway's turn is last: to undo it would close its clients. Tells
/// what became of it, of the metrics and of the page.
pub(super) async fn take(
    steps: Vec<Step>,
    target: &mut impl StepTarget,
) -> Result<Vec<String>, String> {
    let mut done: Vec<Step> = Vec::new();
    for step in steps {
        if let Err(reason) = step.take(target).await {
            undo(done, target).await;
            return Err(reason);
        }
        done.push(step);
    }
    let followed = target.follow_services().await;
    if followed.is_err() {
        undo(done, target).await;
    }
    followed
}

async fn undo(done: Vec<Step>, target: &mut impl StepTarget) {
    for step in done.into_iter().rev() {
        step.undo(target).await;
    }
}

impl Step {
    /// Those that lead from one configuration to another.
    pub(super) fn between(
        before: &Interface,
        after: &Interface,
        endpoints: impl FnOnce() -> Vec<IpAddr>,
    ) -> Vec<Self> {
        let mut steps = Vec::new();
        if before.routes != after.routes {
            let routes = before.routes.clone();
            steps.push(Self::Routes {
                before: Box::new(Interface {
                    routes,
                    ..after.clone()
                }),
                after: Box::new(after.clone()),
                endpoints: endpoints(),
            });
        }
        steps.push(Self::Listen {
            before: before.local_addr,
            after: after.local_addr,
        });
        steps
    }

    async fn take(&self, target: &mut impl StepTarget) -> Result<(), String> {
        match self {
            Self::Routes {
                before,
                after,
                endpoints,
            } => {
                let changed = target.change_routes(&before.routes, after, endpoints).await;
                changed.map_err(|error| format!("interface.routes: {error}"))
            }
            Self::Listen { after, .. } => target.listen(*after).map_err(|error| {
                format!("interface.local_addr: cannot listen on {after}: {error}")
            }),
        }
    }

    /// Puts back what was there before: it worked then, and if it doesn't now, nothing helps.
    async fn undo(self, target: &mut impl StepTarget) {
        match self {
            Self::Routes {
                before,
                after,
                endpoints,
            } => {
                let _ = target
                    .change_routes(&after.routes, &before, &endpoints)
                    .await;
            }
            Self::Listen { before, .. } => {
                let _ = target.listen(before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// Does what it is told, but for one thing that fails.
    #[derive(Default)]
    struct Recorder {
        done: Vec<String>,
        fails: &'static str,
    }

    impl Recorder {
        fn does(&mut self, what: String) -> Result<(), String> {
            if what == self.fails {
                return Err("no".into());
            }
            self.done.push(what);
            Ok(())
        }
    }

    impl StepTarget for Recorder {
        async fn change_routes(
            &mut self,
            from: &[IpNet],
            to: &Interface,
            endpoints: &[IpAddr],
        ) -> Result<(), String> {
            let routes = |nets: &[IpNet]| {
                let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
                nets.join(" ")
            };
            let (from, to) = (routes(from), routes(&to.routes));
            self.does(format!("{from} -> {to} around {endpoints:?}"))
        }

        fn listen(&mut self, address: SocketAddr) -> Result<(), String> {
            self.does(format!("listen {address}"))
        }

        async fn follow_services(&mut self) -> Result<Vec<String>, String> {
            self.does("gateway".into())?;
            Ok(vec!["gateway started".into()])
        }
    }

    fn interface(settings: &str) -> Interface {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let text = format!("[interface]\nvip = \"10.0.0.1\"\nprivate_key = \"{key}\"\n{settings}");
        config::parse(&text, "hub.toml").unwrap().config.interface
    }

    const ROUTES: &str = "10.1.0.0/16 -> 10.2.0.0/16 around [192.0.2.1]";
    const ROUTES_BACK: &str = "10.2.0.0/16 -> 10.1.0.0/16 around [192.0.2.1]";
    const LISTEN: &str = "listen [::]:8";
    const LISTEN_BACK: &str = "listen [::]:7";

    /// What a reload does where that fails, and how it ends.
    async fn reload(fails: &'static str) -> (Vec<String>, Result<Vec<String>, String>) {
        let before = interface("routes = [\"10.1.0.0/16\"]\nlocal_addr = \":7\"\n");
        let after = interface("routes = [\"10.2.0.0/16\"]\nlocal_addr = \":8\"\n");
        let endpoints = || vec!["192.0.2.1".parse().unwrap()];
        let mut target = Recorder {
            fails,
            ..Recorder::default()
        };
        let steps = Step::between(&before, &after, endpoints);
        let outcome = take(steps, &mut target).await;
        (target.done, outcome)
    }

    #[tokio::test]
    async fn what_works_is_done_with_the_gateway_at_the_end() {
        let (done, outcome) = reload("").await;
        assert_eq!(done, [ROUTES, LISTEN, "gateway"]);
        assert_eq!(outcome, Ok(vec!["gateway started".into()]));
    }

    #[tokio::test]
    async fn the_steps_before_one_that_fails_are_undone_the_last_one_first() {
        let (done, outcome) = reload(ROUTES).await;
        assert!(done.is_empty(), "{done:?}");
        assert_eq!(outcome, Err("interface.routes: no".into()));
        let (done, outcome) = reload(LISTEN).await;
        assert_eq!(done, [ROUTES, ROUTES_BACK]);
        let refused = "interface.local_addr: cannot listen on [::]:8: no";
        assert_eq!(outcome, Err(refused.into()));
        let (done, outcome) = reload("gateway").await;
        assert_eq!(done, [ROUTES, LISTEN, LISTEN_BACK, ROUTES_BACK]);
        assert_eq!(outcome, Err("no".into()));
    }

    #[test]
    fn routes_that_stay_are_left_alone_and_endpoints_not_looked_for() {
        let same = interface("routes = [\"10.1.0.0/16\"]\n");
        let steps = Step::between(&same, &same, || panic!("nobody needs them"));
        assert!(matches!(steps[..], [Step::Listen { .. }]), "{steps:?}");
    }
}
