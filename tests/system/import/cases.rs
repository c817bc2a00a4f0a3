//! The files, each a case. `KEY` is our private key, `ANA` and `BOB` are public keys, `PSK` is a
//! preshared one, `LOG` is where hooks write, and `NEAR` and `FAR` are addresses of the wire.

use taltun_tests::topology::WIRE_A;

/// A file, and what is expected of it.
pub struct File {
    pub name: &'static str,
    pub expected: Expected,
    text: &'static [u8],
}

#[derive(Clone, Copy)]
pub enum Expected {
    /// It means the same to both.
    Same,
    /// wg-quick refuses it; we take it, and say so.
    TakenThough(&'static str),
    /// We refuse it, naming this line, with these words.
    Refused(usize, &'static str),
}

impl File {
    /// What is in it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.text.to_vec();
        for (word, value) in [
            ("KEY", "AL3r+Zp6tEJYsFiaDzJBdM6TdqjxLQ3XqTi+++LbYFU="),
            ("ANA", "HeJbUmSEVtIq+6gOIHirEL6XR75sns4MICxzrlbssD4="),
            ("BOB", "vZtIex9kCVy49LJ3jBW//tbCT/ZcSacSBV6AhlSQOWY="),
            ("PSK", "+qRuPp0iNIBVmCihAZnPMeyUMMDPvSJQOXDlJb8WKYQ="),
            ("LOG", "/run/wireguard/log"),
            ("FAR6", &WIRE_A.far_v6().to_string()),
            ("FAR", &WIRE_A.far_v4().to_string()),
        ] {
            bytes = replace(&bytes, format!("@{word}@").as_bytes(), value.as_bytes());
        }
        bytes
    }
}

fn replace(text: &[u8], word: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(word) {
            out.extend_from_slice(value);
            at += word.len();
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

const fn same(name: &'static str, text: &'static str) -> File {
    File {
        name,
        expected: Expected::Same,
        text: text.as_bytes(),
    }
}

const fn bytes(name: &'static str, text: &'static [u8]) -> File {
    File {
        name,
        expected: Expected::Same,
        text,
    }
}

const fn though(name: &'static str, says: &'static str, text: &'static [u8]) -> File {
    File {
        name,
        expected: Expected::TakenThough(says),
        text,
    }
}

const fn refused(name: &'static str, line: usize, says: &'static str, text: &'static str) -> File {
    File {
        name,
        expected: Expected::Refused(line, says),
        text: text.as_bytes(),
    }
}

/// How a file may be written, and what `wg` reads.
pub const LINES: &[File] = &[
    same("plain", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nListenPort = 51899\n\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n"),
    bytes("carriage returns", b"[Interface]\r\nPrivateKey = @KEY@\r\nAddress = 10.77.0.1/24\r\nListenPort = 51899\r\n\r\n[Peer]\r\nPublicKey = @ANA@\r\nAllowedIPs = 10.77.0.2/32\r\n"),
    bytes("blanks everywhere", b"  [Interface] \t\n\tPrivateKey\t=\t@KEY@  \n Address=10.77.0.1/24\n \t \n[Peer]\t\nPublicKey=@ANA@\nAllowedIPs =10.77.0.2/32 , 192.0.2.0/24\x0b\x0c\n"),
    same("no blanks", "[Interface]\nPrivateKey=@KEY@\nAddress=10.77.0.1/24\n[Peer]\nPublicKey=@ANA@\nAllowedIPs=10.77.0.2/32,192.0.2.0/24"),
    same("any case", "[INTERFACE]\nprivatekey = @KEY@\nADDRESS = 10.77.0.1/24\nlistenPORT = 51899\nlistenport = 51898\n[pEER]\npublicKEY = @ANA@\nallowedips = 10.77.0.2/32\nPERSISTENTKEEPALIVE = OFF\n"),
    same("blanks inside, as only wg reads them", "[Interface]\nPrivate Key = @KEY@\nAddress = 10.77.0.1/24\nListen Port = 518 99\n[ Peer ]\nPublic Key = @ANA@\nAllowed IPs = 10.77.0.2 / 32, 192.0. 2.0/24\n"),
    same("comments at the ends of lines", "# one\n[Interface] # two\nPrivateKey = @KEY@ # three\nAddress = 10.77.0.1/24#four\n[Peer] # ana\n#five\nPublicKey = @ANA@#six\nAllowedIPs = 10.77.0.2/32 # seven, 192.0.2.0/24\n# eight"),
    bytes("a comment in Latin-1", b"# Jos\xe9\n[Interface]\nPrivateKey = @KEY@ # Espa\xf1a\nAddress = 10.77.0.1/24\n# Mu\xf1oz\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n"),
    same("equal keys", "[Interface]\nPrivateKey = @PSK@\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nListenPort = 51898\nMTU = 1300\nlistenport = 51899\nMTU = 1360\nFwMark = 0x77\nFwMark = 0x78\n[Peer]\nPublicKey = @BOB@\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\nEndpoint = 192.0.2.1:7\nEndpoint = @FAR@:51820\nPersistentKeepalive = 25\nPersistentKeepalive = 20\n"),
    same("equal keys, the last of which takes back", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nMTU = 1300\nMTU =\nFwMark = 0x77\nFwMark = off\nTable = off\nTable =\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32, 192.0.2.0/24\nPersistentKeepalive = 25\nPersistentKeepalive = off\n"),
    same("sections that come back", "[Interface]\nPrivateKey = @KEY@\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n[Interface]\nAddress = 10.77.0.1/24\nPostUp = echo later >> @LOG@\n[Peer]\nPublicKey = @BOB@\nAllowedIPs = 10.77.0.3/32\n[Interface]\nListenPort = 51899\nDNS = 10.77.0.53\n"),
    same("a prefix in two peers", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32, 192.0.2.0/24\n[Peer]\nPublicKey = @BOB@\nAllowedIPs = 10.77.0.3/32, 192.0.2.0/24\n"),
    same("a prefix with bits beyond its length", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32, 192.0.2.77/24, 10.88.1.1/16, fd00:77::7/64\n"),
    same("allowed IPs over several lines, some twice", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2\nAllowedIPs = 192.0.2.0/24, 10.77.0.2/32\nAllowedIPs = 192.0.2.0/24\n"),
    same("no allowed IPs", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = @BOB@\n"),
    though("an empty list", "no packet will go", b"[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = @ANA@\nAllowedIPs =\n"),
    same("no peers", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nListenPort = 51899\n"),
    same("preshared keys", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = @ANA@\nPresharedKey = @KEY@\nPresharedKey = @PSK@\nAllowedIPs = 10.77.0.2/32\n"),
    same("keepalive 0", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\nPersistentKeepalive = 0\n"),
    same("a port that is any port", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nListenPort = 0\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n"),
    same("numbers with zeros in front", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nListenPort = 51899\nListenPort = 051899\nFwMark = 0077\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/032\nPersistentKeepalive = 025\n"),
    same("marks, hexadecimal", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nFwMark = 0xCA6c\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n"),
    same("marks, none", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nFwMark = 0x0\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n"),
    same("endpoints", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\nEndpoint = [@FAR6@]:51820\n[Peer]\nPublicKey = @BOB@\nAllowedIPs = 10.77.0.3/32\nEndpoint = @FAR@:051820\n"),
    same("endpoints in other brackets", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\nEndpoint = @FAR6@:51820\n[Peer]\nPublicKey = @BOB@\nAllowedIPs = 10.77.0.3/32\nEndpoint = [@FAR@]:51820\n"),
    same("an endpoint with an odd name", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\nEndpoint = my_router.example.net:51820\n"),
    same("SaveConfig", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nSaveConfig = False\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n"),
    same("comments with names and settings", "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n# taltun: on_up = \"echo owned >> @LOG@\"\n# taltun: \"on_down\" = \"echo owned >> @LOG@\"\n# wg-quick: PostUp = echo owned >> @LOG@\n### Client ana\n[Peer]\nPublicKey = @ANA@\n# taltun: name = \"\"\"\nAllowedIPs = 10.77.0.2/32\n# taltun: [interface]\n# taltun: before_up = \"echo owned >> @LOG@\"\n"),
    though("a byte order mark and commas at the end", "after the last one", b"\xef\xbb\xbf[Interface]\r\nPrivateKey = @KEY@\r\nAddress = 10.77.0.1/24,\r\n[Peer]\r\nPublicKey = @ANA@\r\nAllowedIPs = 10.77.0.2/32,\r\n"),
];

/// Addresses, routes, tables and name servers.
pub const NETWORK: &[File] = &[
    same(
        "addresses over several lines",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24, 10.78.0.1/24\nAddress = 10.79.0.1/24 fd00:77::1/64\naddress = 10.80.0.9\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32, 10.78.0.2/32, 10.80.0.2/32, fd00:77::2/128, fd00:78::/64\n",
    ),
    same(
        "an address with its mask",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/255.255.255.0\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
    same(
        "single addresses",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1, fd00:77::1\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2, fd00:77::2, 10.77.0.0/24\n",
    ),
    same(
        "networks wider and narrower than ours",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.1.1/24\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.0/16, 10.77.1.0/24, 10.77.1.128/25, 10.77.2.0/24\n",
    ),
    same(
        "everything",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/32, fd00:77::1/128\nDNS = 10.77.0.53\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 0.0.0.0/0, ::0/0\nEndpoint = @FAR@:51820\n",
    ),
    same(
        "everything, with a mark of one's own",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/32\nFwMark = 0x7777\nTable = auto\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 0.0.0.0/0\nEndpoint = @FAR@:51820\n",
    ),
    same(
        "everything in halves",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/32\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 0.0.0.0/1, 128.0.0.0/1\nEndpoint = 192.0.2.1:51820\n",
    ),
    same(
        "Table = off",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nTable = off\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32, 0.0.0.0/0, 192.0.2.0/24\n",
    ),
    same(
        "a table by its number",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24, fd00:77::1/64\nTable = 55111\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 0.0.0.0/0, ::/0\n[Peer]\nPublicKey = @BOB@\nAllowedIPs = 10.77.0.3/32\n",
    ),
    same(
        "the main table by its name",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nTable = main\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 192.0.2.0/24\n",
    ),
    same(
        "a table of a user's own, with rules",
        "[Interface]\nPrivateKey=@KEY@\nAddress=10.77.0.1/32\nTable=55111\nFwMark=0xca6c\nPostUp=ip rule add uidrange 1001-1001 lookup 55111 pref 30000; wg show %i fwmark >> @LOG@\nPreDown=wg show %i fwmark >> @LOG@; ip rule del uidrange 1001-1001 lookup 55111 pref 30000\n[Peer]\nPublicKey=@ANA@\nAllowedIPs=0.0.0.0/0\nEndpoint=@FAR@:3201\n",
    ),
    same(
        "name servers and domains",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nDNS = 10.77.0.53, example.org fd00:77::53\nDNS = example.net,10.77.0.54\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
    same(
        "domains without a name server",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nDNS = example.org\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
    same(
        "an MTU",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24, fd00:77::1/64\nMTU = 1280\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
    same(
        "a small MTU",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nMTU = 900\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
];

/// Commands.
pub const HOOKS: &[File] = &[
    same(
        "in their time",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nFwMark = 0x77\nPreUp = echo PreUp %i $(ip link show %i > /dev/null 2>&1; echo $?) $(wg show %i fwmark 2> /dev/null) >> @LOG@\nPostUp = echo PostUp %i $(ip route show dev %i 192.0.2.0/24 | wc -l) $(wg show %i fwmark) >> @LOG@\nPreDown = echo PreDown %i $(ip route show dev %i 192.0.2.0/24 | wc -l) $(wg show %i fwmark) >> @LOG@\nPostDown = echo PostDown %i $(ip link show %i > /dev/null 2>&1; echo $?) $(wg show %i fwmark 2> /dev/null) >> @LOG@\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32, 192.0.2.0/24\n",
    ),
    same(
        "several, in their order",
        "[Interface]\nPostDown = echo 7 >> @LOG@\nPostUp = echo 2 >> @LOG@; echo 3 >> @LOG@\nPrivateKey = @KEY@\nPreUp = echo 1 >> @LOG@\nAddress = 10.77.0.1/24\nPreDown = echo 5 >> @LOG@\nPostUp = echo 4 >> @LOG@\nPostDown = echo 8 >> @LOG@\nPreDown = echo 6 >> @LOG@\nPostUp =\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
    same(
        "in bash",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nPostUp = while read -r net; do ip route add \"$net\" dev %i; done < <(printf '192.0.2.0/25\\n192.0.2.128/25\\n')\nPostUp = [[ -e /proc/sys/net/ipv6/conf/%i ]] && echo {a,b} >> @LOG@\nPostUp = words=(one two); echo ${words[1]} $'\\x41' >> @LOG@\nPreDown = echo \"$(( 1 + 1 ))\" >& /dev/null; echo \"${BASH_VERSION:+bash}\" >> @LOG@\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
    same(
        "with the name in quotes",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nPostUp = nft 'add table inet %i; add chain inet %i f { type filter hook forward priority 0; policy accept; }; add rule inet %i f iifname \"%i\" oifname \"%i\" drop'\nPostUp = nft list table inet %i >> @LOG@; echo '%i' \"%i\" %i%i \\%i >> @LOG@\nPostDown = nft 'delete table inet %i'\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
    same(
        "with quotes and backslashes",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nPostUp = echo \"it's \\\"so\\\"\" 'a\\b' \"\\\\\" >> @LOG@\nPostUp = printf '%s\\t%s\\n' x y >> @LOG@\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
    same(
        "a kill switch that asks for the mark",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/32\nFwMark = 0x7a7a\nPostUp = nft \"add table inet ks; add chain inet ks o { type filter hook output priority 0; }; add rule inet ks o oifname != \\\"%i\\\" mark != $(wg show %i fwmark) fib daddr type != local reject\"\nPostUp = nft list table inet ks >> @LOG@\nPreDown = wg show %i fwmark >> @LOG@ && nft delete table inet ks && echo gone >> @LOG@\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 0.0.0.0/0\nEndpoint = @FAR@:51820\n",
    ),
    same(
        "the key from a file",
        "[Interface]\nAddress = 10.77.0.1/24\nPreUp = echo @KEY@ > /run/wireguard/%i.key\nPostUp = wg set %i private-key /run/wireguard/%i.key\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
    same(
        "one that fails in the middle",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nPostUp = false || echo one >> @LOG@; echo two >> @LOG@\nPostDown = echo three >> @LOG@; false; echo four >> @LOG@\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
    same(
        "what wg sets later",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nListenPort = 51899\nPostUp = wg set %i peer @BOB@ allowed-ips 10.77.0.3/32; wg show %i peers | wc -l >> @LOG@\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
    same(
        "addresses and routes by hand",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/32\nTable = off\nPostUp = ip address add 10.78.0.1/32 peer 10.78.0.2/32 dev %i; ip route add 198.51.100.0/24 dev %i src 10.77.0.1; echo done >> @LOG@\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.78.0.2/32, 198.51.100.0/24\n",
    ),
    same(
        "in the middle of lines with a #",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nPostUp = echo one >> @LOG@ # echo two >> @LOG@\n#PostUp = echo three >> @LOG@\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n",
    ),
];

/// What `wg` or `wg-quick` refuses, or Taltun can't do.
pub const REFUSED: &[File] = &[
    refused(
        "an unknown key",
        3,
        "did you mean Address",
        "[Interface]\nPrivateKey = @KEY@\nAdress = 10.77.0.1/24\n",
    ),
    refused(
        "a key of the other section",
        4,
        "belongs to [Peer]",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nAllowedIPs = 10.0.0.0/8\n",
    ),
    refused(
        "a key before all sections",
        2,
        "before it",
        "# hello\nPrivateKey = @KEY@\n[Interface]\n",
    ),
    refused(
        "another section",
        3,
        "[Interface] or [Peer]",
        "[Interface]\nPrivateKey = @KEY@\n[Peers]\n",
    ),
    refused(
        "a header with more",
        1,
        "[Interface] or [Peer]",
        "[Interface] x\nPrivateKey = @KEY@\n",
    ),
    refused(
        "no value",
        2,
        "Key = Value",
        "[Interface]\nAddress\nPrivateKey = @KEY@\n",
    ),
    refused(
        "a key of wg-quick's below a header that it doesn't know",
        3,
        "without blanks",
        "[ Interface ]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n",
    ),
    refused(
        "AmneziaWG",
        4,
        "AmneziaWG",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nJc = 4\nJmin = 40\nS1 = 86\nH1 = 1\n",
    ),
    refused(
        "a port that is none",
        2,
        "up to 65535",
        "[Interface]\nListenPort = 70000\nPrivateKey = @KEY@\n",
    ),
    refused(
        "a mark that is too large",
        2,
        "0xffffffff",
        "[Interface]\nFwMark = 0x1ffffffff\nPrivateKey = @KEY@\n",
    ),
    refused(
        "a keepalive that is none",
        5,
        "65535",
        "[Interface]\nPrivateKey = @KEY@\n[Peer]\nPublicKey = @ANA@\nPersistentKeepalive = -1\n",
    ),
    refused(
        "networks without commas",
        5,
        "commas",
        "[Interface]\nPrivateKey = @KEY@\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.0.0.0/8 10.1.0.0/16\n",
    ),
    refused(
        "a prefix that is too long",
        5,
        "10.0.0.0/33",
        "[Interface]\nPrivateKey = @KEY@\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.0.0.0/33\n",
    ),
    refused(
        "a prefix to take away",
        5,
        "-10.0.0.0/8",
        "[Interface]\nPrivateKey = @KEY@\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = -10.0.0.0/8\n",
    ),
    refused(
        "a key that is none",
        2,
        "44 base64",
        "[Interface]\nPrivateKey = abc\n",
    ),
    refused(
        "a peer without a key",
        4,
        "missing",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nAllowedIPs = 10.77.0.2/32\n",
    ),
    refused(
        "one key twice",
        8,
        "line 5",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.2/32\n[Peer]\nPublicKey = @ANA@\nAllowedIPs = 10.77.0.3/32\n",
    ),
    refused(
        "no private key",
        2,
        "PrivateKey: missing",
        "# x\n[Interface]\nAddress = 10.77.0.1/24\n",
    ),
    refused(
        "a private key from a program",
        3,
        "whole path",
        "[Interface]\nAddress = 10.77.0.1/24\nPostUp = wg set %i private-key <(pass show wg)\n",
    ),
    refused(
        "an endpoint without a port",
        6,
        "HOST:PORT",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = @ANA@\nEndpoint = vpn.example.org\n",
    ),
    refused(
        "an MTU that IPv6 can't live with",
        4,
        "MTU: expected at least 1280",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24, fd00:77::1/64\nMTU = 1000\n",
    ),
    refused(
        "an MTU that is none",
        3,
        "MTU: expected",
        "[Interface]\nPrivateKey = @KEY@\nMTU = large\n",
    ),
    refused(
        "an address that is none",
        4,
        "10.77.0.300",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nAddress = 10.77.0.300/24\n",
    ),
    refused(
        "an address of a network",
        5,
        "Address: 10.78.0.0",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n\nAddress = 10.78.0.0/24\n",
    ),
    refused(
        "a name server that is none",
        5,
        "DNS: expected",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nDNS = 10.77.0.53\nDNS = 10.77.0\n",
    ),
    refused(
        "a table that isn't off",
        4,
        "Table",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nTable = OFF\n",
    ),
    refused(
        "a table that is a command",
        4,
        "Table",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nTable = 5; reboot\n",
    ),
    refused(
        "SaveConfig without a meaning",
        4,
        "true or false",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\nSaveConfig = yes\n",
    ),
    refused(
        "our own key as a peer's",
        5,
        "PublicKey: this is our own",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\n[Peer]\nPublicKey = A3mi/vjYU/rwQRikmj2LKxhiuxnklyuedXIxQjYuPVk=\n",
    ),
    refused(
        "a zero byte",
        3,
        "not text",
        "[Interface]\nPrivateKey = @KEY@\nAddress = 10.77.0.1/24\0\n",
    ),
    refused(
        "a hook of a peer",
        5,
        "belongs to [Interface]",
        "[Interface]\nPrivateKey = @KEY@\n[Peer]\nPublicKey = @ANA@\nPostUp = reboot\n",
    ),
];
