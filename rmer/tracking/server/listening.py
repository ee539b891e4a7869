"""Where a server listens, and under which addresses others find it."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from rmer.errors import UserError

HIGHEST_PORT = 65535
LOCAL = ("localhost", "127.0.0.1", "[::1]")


def check_free(host: str, port: int) -> None:
    """Raise :class:`UserError` for a port that is taken or an address that is not this machine's."""
    where = f"{host}:{port}"
    if not 0 < port <= HIGHEST_PORT:
        raise UserError("there is no such port", where=where, mend=f"Choose one in 1 .. {HIGHEST_PORT}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, TypeError) as error:  # TypeError: no name of a host
            mend = f"Choose another port (--port {port + 1}), or use the server that runs there"
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"cannot listen there ({reason})", where=where, mend=mend) from error


def is_local(host: str) -> bool:
    """Tell whether only this machine reaches what listens there."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(entry[4][0]).split("%")[0]).is_loopback for entry in found)


def names_of(host: str) -> list[str]:
    """Return what clients may call a server that listens there, the best name first (IPv6 in brackets).

    Where it listens at every address (``0.0.0.0``), that is the machine's name if it leads to one of its
    addresses (in many an ``/etc/hosts`` it leads back to the machine itself), then those addresses, then
    other names.
    """
    if host not in ("0.0.0.0", "::", ""):
        return [_in_url(host)]
    addresses = _addresses()
    names = list(dict.fromkeys([socket.getfqdn(), socket.gethostname()]))
    known = [name for name in names if _leads_to(name) & set(addresses)]
    return list(dict.fromkeys([*known, *map(_in_url, addresses), *names]))


def _addresses() -> list[str]:
    """Return the addresses of this machine that others may reach, IPv4 first."""
    found = [entry for entries in psutil.net_if_addrs().values() for entry in entries]
    usable = [
        ipaddress.ip_address(entry.address)
        for family in (socket.AF_INET, socket.AF_INET6)
        for entry in found
        if entry.family == family and "%" not in entry.address
    ]
    return [str(address) for address in usable if not (address.is_loopback or address.is_link_local)]


def _leads_to(name: str) -> set[str]:
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(name, None)}
    except OSError:
        return set()


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address
