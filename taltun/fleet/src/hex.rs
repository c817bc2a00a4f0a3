//! Bytes as hexadecimal digits in small letters, of which each text is the only one.

/// The digits.
pub fn encode(bytes: &[u8]) -> String {
    let mut digits = vec![0; 2 * bytes.len()];
    let text = base16ct::lower::encode_str(bytes, &mut digits);
    text.expect("there are two digits for each byte").to_owned()
}

/// The bytes of exactly `2 N` small digits.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let read = base16ct::lower::decode(text, &mut bytes).ok()?;
    (read.len() == N).then_some(bytes)
}

/// The same fields where they may be missing.
pub mod optional {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the digits.
    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &Option<[u8; N]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => super::field::serialize(bytes, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Option<[u8; N]>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::field::of_text(&text)).transpose()
    }
}

/// Fields of records that are arrays of bytes.
pub mod field {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the digits.
    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::encode(bytes))
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        of_text(&String::deserialize(deserializer)?)
    }

    /// The bytes of a text.
    pub(super) fn of_text<E: Error, const N: usize>(text: &str) -> Result<[u8; N], E> {
        super::decode(text)
            .ok_or_else(|| E::custom(format_args!("expected {} small hex digits", 2 * N)))
    }
}
