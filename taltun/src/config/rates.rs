//! What must hold between the rates of peers and that of the uplink.

use super::draft::Draft;
use super::error::ConfigError;

/// Refuses to promise a peer more than all of them have.
pub(super) fn check(draft: &Draft) -> Result<(), ConfigError> {
    let (Some(uplink), Some(origin)) = (draft.shaping.uplink, &draft.uplink) else {
        return Ok(());
    };
    for peer in &draft.peers {
        if let (Some(rate), Some(spot)) = (peer.rates.rate_down, &peer.rate_down)
            && rate > uplink
        {
            return Err(spot.error(format!(
                "{rate} is more than the uplink of all peers has, {uplink} ({}); lower the one or \
                 raise the other",
                origin.origin()
            )));
        }
    }
    Ok(())
}
