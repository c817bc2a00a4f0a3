//! What the tunnel tells by a code, in both languages.

use taltun_common::drops::DropReason;

use super::{Language, filled};
use crate::report::{Problem, ProblemCause, Refused, RefusedBy, Why, XdpAttachment};

/// Why something isn't done. What has no code is told as the tunnel tells it.
pub(crate) fn refusal(refused: &Refused, language: Language) -> String {
    let words = language.words();
    let Some(why) = &refused.why else {
        return format!("{} {}", words.refused, refused.text);
    };
    match why {
        Why::NameTaken => words.name_taken.to_owned(),
        Why::NameUnfit => words.name_unfit.to_owned(),
        Why::DayUnfit => words.day_unfit.to_owned(),
        Why::EndpointUnfit => words.endpoint_unfit.to_owned(),
        Why::NoEndpoint => words.no_endpoint.to_owned(),
        Why::Full(subnets) => filled(words.full, &[subnets]),
        Why::Named(places) => filled(words.named, &[places]),
        Why::NotTakenOver => words.not_taken_over.to_owned(),
        Why::NotWritten => words.not_written.to_owned(),
        Why::NotInFile => words.not_in_file.to_owned(),
        Why::OwnWay(address) => filled(words.own_way, &[&address.to_string()]),
        Why::TooWide => words.too_wide.to_owned(),
        Why::OwnAddress => words.own_address.to_owned(),
        Why::IsInside => words.is_inside.to_owned(),
        Why::NotBanned => words.not_banned.to_owned(),
        Why::BanTime => words.ban_time.to_owned(),
    }
}

/// What a reason of drops means.
pub(crate) fn drop_reason(reason: DropReason, language: Language) -> &'static str {
    match language {
        Language::English => reason.meaning(),
        Language::Spanish => reason_in_spanish(reason),
    }
}

fn reason_in_spanish(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Denied => "el emisor está vetado",
        DropReason::Shape => "no es un mensaje de WireGuard",
        DropReason::UnknownIndex => "no existe esa sesión",
        DropReason::Mac1 => "el emisor tiene otra clave para nosotros",
        DropReason::Unverified => "sin tiempo para verificarlo: una inundación",
        DropReason::NoCookie => "sin cookie, bajo carga",
        DropReason::RateLimited => "demasiadas negociaciones de un emisor",
        DropReason::Handshake => "clave o clave precompartida desconocida",
        DropReason::HandshakeQueueFull => "esperan demasiadas negociaciones",
        DropReason::Authentication => "dañado o falsificado",
        DropReason::Replay => "ya llegó antes, o llega muy tarde",
        DropReason::Expired => "su sesión es demasiado vieja",
        DropReason::InnerMalformed => "dentro no hay un paquete IP",
        DropReason::InnerSource => "origen que no es del par",
        DropReason::InnerDenied => "el origen está vetado dentro",
        DropReason::NoPeer => "nadie tiene ese destino",
        DropReason::NoEndpoint => "aún no se sabe dónde está el par",
        DropReason::StagedQueueFull => "demasiado espera una negociación",
        DropReason::HopLimit => "se le acabaron los saltos",
        DropReason::Oversized => "mayor que un búfer",
        DropReason::UdpSend => "el núcleo no quiso enviarlo",
        DropReason::TunWrite => "el núcleo no lo quiso, de un par",
        DropReason::RingFull => "un anillo de AF_XDP estaba lleno",
        DropReason::RoutingLoop => "nuestro, enviado al túnel",
        DropReason::Control => "mensaje de control, raro o de más",
        DropReason::Rule => "ninguna regla lo deja empezar",
        DropReason::PeerRefused => "par sin cuota o tras su último día",
        DropReason::LostFragment => "falta su primer fragmento",
        DropReason::Shaped => "sobre una tasa: esperó demasiado",
    }
}

/// What is wrong with a peer. English says more, as the tunnel does.
pub(crate) fn problem(problem: &Problem, language: Language) -> String {
    let spanish = match (language, problem.cause) {
        (Language::English, _) => return problem.message.clone(),
        (_, ProblemCause::PresharedKey) => {
            "responde, pero con otra clave precompartida; dé la misma a ambos lados, o ninguna"
        }
        (_, ProblemCause::NotConfirmed) => {
            "empieza otra vez aunque se le respondió: tiene otra clave precompartida, o no le \
             llegan nuestras respuestas (un cortafuegos allí o en el camino)"
        }
        (_, ProblemCause::PortClosed) => {
            "nadie escucha en ese puerto; arranque el otro lado o corrija el puerto de su extremo"
        }
        (_, ProblemCause::Unreachable) => {
            "no se alcanza; mire las rutas y los cortafuegos del camino"
        }
        (_, ProblemCause::NotSent) => {
            "el núcleo no puede enviar nada allí; mire las rutas y el cortafuegos de esta máquina"
        }
        (_, ProblemCause::NotResolved) => {
            "el nombre de su extremo no se resuelve; se intenta una y otra vez"
        }
        (_, ProblemCause::Clock) => {
            "su reloj fue hacia atrás, y sus negociaciones se rechazan como repetidas; ponga su \
             reloj en hora (NTP)"
        }
        (_, ProblemCause::NoAnswer) => {
            "no responde: el extremo es otro, UDP está bloqueado en el camino, o el otro lado no \
             conoce nuestra clave o tiene otra clave pública que el fichero"
        }
        (_, ProblemCause::Away) => {
            "no está donde se le oyó por última vez: está apagado o en otra parte; vuelve cuando \
             envíe algo"
        }
    };
    spanish.to_owned()
}

/// Why a peer is refused.
pub(crate) fn refused_by(reason: RefusedBy, language: Language) -> &'static str {
    match (language, reason) {
        (Language::English, RefusedBy::Quota) => "its quota is used up",
        (Language::English, RefusedBy::Expired) => "its last day is over",
        (Language::English, RefusedBy::Unread) => "its usage isn't read yet",
        (Language::Spanish, RefusedBy::Quota) => "su cuota está agotada",
        (Language::Spanish, RefusedBy::Expired) => "su último día ya pasó",
        (Language::Spanish, RefusedBy::Unread) => "aún no se ha leído su consumo",
    }
}

/// The span that a quota is for, `day` or `month`.
pub(crate) fn period(period: &str, language: Language) -> &str {
    match (language, period) {
        (Language::Spanish, "day") => "por día",
        (Language::Spanish, "month") => "por mes",
        (Language::English, "day") => "a day",
        (Language::English, "month") => "a month",
        (_, other) => other,
    }
}

/// Where the XDP program runs.
pub(crate) fn xdp(mode: XdpAttachment, language: Language) -> &'static str {
    match (language, mode) {
        (Language::English, XdpAttachment::Driver) => "XDP in the driver",
        (Language::English, XdpAttachment::Generic) => "generic XDP",
        (Language::English, XdpAttachment::Off) => "XDP off",
        (Language::Spanish, XdpAttachment::Driver) => "XDP en el controlador",
        (Language::Spanish, XdpAttachment::Generic) => "XDP genérico",
        (Language::Spanish, XdpAttachment::Off) => "XDP apagado",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_said_in_both_languages() {
        for reason in DropReason::ALL {
            let [english, spanish] = [Language::English, Language::Spanish]
                .map(|language| drop_reason(*reason, language));
            assert!(english != spanish && !spanish.is_empty(), "{reason:?}");
        }
    }

    #[test]
    fn what_has_a_code_has_no_words_of_a_command() {
        for why in [
            Why::NameTaken,
            Why::NameUnfit,
            Why::DayUnfit,
            Why::EndpointUnfit,
            Why::NoEndpoint,
            Why::Full("10.0.0.0/30".to_owned()),
            Why::Named("rules (line 7)".to_owned()),
            Why::NotTakenOver,
            Why::NotWritten,
            Why::NotInFile,
            Why::OwnWay("10.0.0.2".parse().unwrap()),
            Why::TooWide,
            Why::OwnAddress,
            Why::IsInside,
            Why::NotBanned,
            Why::BanTime,
        ] {
            let refused = Refused::because(why, "do it by --force or `taltun peer`");
            for language in [Language::English, Language::Spanish] {
                let said = refusal(&refused, language);
                let has_command = said.contains("--") || said.contains('`');
                assert!(!has_command && !said.contains("{}"), "{said}");
            }
        }
        let other = refusal(&"the disk is full".into(), Language::Spanish);
        assert_eq!(other, "El concentrador lo rechaza: the disk is full");
    }
}
