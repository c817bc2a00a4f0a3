//! How a setting is read that a key declares with its type.

use std::fmt::Display;

use super::document::{Field, Section};
use super::error::ConfigError;
use super::keys::Key;
use super::words::Words;
use super::{Dns, PortRange, PublicEndpoint, Rate, values};

/// A type that a key may declare.
pub(super) trait Setting: Sized {
    /// What the section says, or else the key's default.
    fn read(section: &Section, key: &'static Key) -> Result<Self, ConfigError>;
}

/// Whatever can be read of a value may be one without a default that needn't be given.
trait FromField: Sized {
    fn from_field(field: &Field) -> Result<Self, ConfigError>;
}

impl<T: FromField> Setting for T {
    fn read(section: &Section, key: &'static Key) -> Result<Self, ConfigError> {
        T::from_field(&section.value(key)?)
    }
}

impl<T: FromField> Setting for Option<T> {
    fn read(section: &Section, key: &'static Key) -> Result<Self, ConfigError> {
        let given = section.get(key);
        given.map(|field| T::from_field(&field)).transpose()
    }
}

impl FromField for bool {
    fn from_field(field: &Field) -> Result<Self, ConfigError> {
        field.boolean()
    }
}

impl FromField for PortRange {
    fn from_field(field: &Field) -> Result<Self, ConfigError> {
        let port = |number: u32| {
            // The key's range ends with the largest port.
            let port = number.try_into();
            port.map_err(|_| field.spot().error("the number is too large"))
        };
        let (first, last) = field.range()?;
        Ok(Self {
            first: port(first)?,
            last: port(last)?,
        })
    }
}

impl FromField for u32 {
    fn from_field(field: &Field) -> Result<Self, ConfigError> {
        field.integer()
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(impl FromField for $number {
            fn from_field(field: &Field) -> Result<Self, ConfigError> {
                // No key declares a range that doesn't fit: tests read both ends of each.
                let number = field.integer()?;
                number.try_into().map_err(|_| field.spot().error("the number is too large"))
            }
        })*
    };
}

numbers! { u16 usize }

impl<T: Words> FromField for T {
    fn from_field(field: &Field) -> Result<Self, ConfigError> {
        parse_with(field, values::word)
    }
}

impl FromField for Rate {
    fn from_field(field: &Field) -> Result<Self, ConfigError> {
        parse_with(field, values::rate)
    }
}

impl FromField for PublicEndpoint {
    fn from_field(field: &Field) -> Result<Self, ConfigError> {
        parse_with(field, values::public_endpoint)
    }
}

impl FromField for Dns {
    fn from_field(field: &Field) -> Result<Self, ConfigError> {
        let mut dns = Self::default();
        for item in field.list()? {
            match parse_with(&item, values::dns)? {
                values::DnsItem::Server(server) => dns.servers.push(server),
                values::DnsItem::Search(domain) => dns.search.push(domain),
            }
        }
        Ok(dns)
    }
}

/// A text, as `parse` understands it.
pub(super) fn parse_with<T, E: Display>(
    field: &Field,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, ConfigError> {
    parse(field.string()?).map_err(|message| field.spot().error(message))
}
