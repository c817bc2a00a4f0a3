//! Where the tests of names that lead into a tunnel take place: a hub and a client behind one
//! router, and beyond it a world with a name server.

use std::net::IpAddr;

use anyhow::Result;
use taltun_tests::netns::Namespace;
use taltun_tests::recipes::internet::{self, HOME, HUB, WORLD};
use taltun_tests::topology::private_prefix;
use taltun_tests::traffic::dns::Resolver;

/// Where the world's name server answers.
const NAME_SERVER: &str = "198.18.0.53";

/// The machines and the name server, which end with it.
pub struct NamesLab {
    _resolver: Resolver,
    _world: Namespace,
    pub client: Namespace,
    pub hub: Namespace,
    pub net: Namespace,
}

impl NamesLab {
    /// With a name server that knows `names` and says that they are good for so many seconds.
    pub fn start(names: &[(&'static str, &str)], seconds: u32) -> Result<Self> {
        let prefix = private_prefix();
        let net = Namespace::create(&format!("{prefix}-net"))?;
        internet::make_router(&net)?;
        let machine = |name: &str, link| -> Result<Namespace> {
            let namespace = Namespace::create(&format!("{prefix}-{name}"))?;
            let end = format!("to-{name}");
            internet::connect((&namespace, "eth0"), (&net, &end), link, true)?;
            Ok(namespace)
        };
        let (hub, client) = (machine("hub", HUB)?, machine("client", HOME)?);
        let world = machine("world", WORLD)?;
        world.ip(&format!("addr add {NAME_SERVER}/24 dev eth0"))?;
        let names = names
            .iter()
            .map(|(name, address)| Ok((*name, address.parse()?)))
            .collect::<Result<Vec<(&str, IpAddr)>>>()?;
        let resolver = Resolver::with_names(&world, NAME_SERVER.parse()?, names, seconds)?;
        Ok(Self {
            _resolver: resolver,
            _world: world,
            client,
            hub,
            net,
        })
    }
}
