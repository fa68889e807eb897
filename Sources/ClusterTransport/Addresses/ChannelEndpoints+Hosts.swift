// SPDX-License-Identifier: Apache-2.0

extension ChannelEndpoints {
    /// `tcp://HOST:PORT` for each channel; a port of 0 is the system's choice. IPv6 addresses come with or without
    /// brackets.
    package init(host: String, ports: [Int]) {
        precondition(ports.count == 3)
        let host = Endpoint.bracketed(host)
        func endpoint(_ index: Int) -> String { "tcp://\(host):\(ports[index] == 0 ? "*" : String(ports[index]))" }
        self.init(control: endpoint(0), exchange: endpoint(1), bulk: endpoint(2))
    }

    /// The host of the control channel, without brackets; empty when it is none.
    package var host: String { (try? Endpoint(control, isForBinding: true))?.host ?? "" }

    /// The same ports on another host.
    package func on(host: String) -> ChannelEndpoints {
        let ports = Channel.allCases.map { (try? Endpoint(self[$0], isForBinding: true))?.port.map(Int.init) ?? 0 }
        return ChannelEndpoints(host: host, ports: ports)
    }

    /// Whether no other host can reach them.
    package var isLoopback: Bool { HostAddress.isLoopback(host) }

    /// What others are told to dial, where these are listened on.
    ///
    /// - Parameters:
    ///   - host: what the operator says: an address, or a name that others resolve.
    ///   - peer: who has to reach us first; nil when nobody is known yet.
    /// - Throws: ``TransportError`` `badEndpoint` where it is not clear which of this host's addresses others reach.
    package func advertised(as host: String?, towards peer: ChannelEndpoints?) throws(TransportError)
        -> ChannelEndpoints
    {
        if let host {
            let named = on(host: host)
            guard (try? Endpoint(named.control, isForBinding: false)) != nil, !HostAddress.isWildcard(host) else {
                throw TransportError(
                    .badEndpoint, "--advertise \(host): expected an address of this host or a name that others resolve")
            }
            return named
        }
        guard HostAddress.isWildcard(self.host) else { return self }
        let isIPv4 = !self.host.contains(":")
        if let peer {
            guard let own = HostAddress.towards(peer.host), !isIPv4 || !own.contains(":") else {
                throw TransportError(
                    .badEndpoint,
                    "no \(isIPv4 ? "IPv4 " : "")route leads from this host to \(peer.host); say by which address others "
                        + "reach it with --listen or --advertise")
            }
            return on(host: own)
        }
        return on(host: try Self.ownAddress(isIPv4: isIPv4))
    }

    /// The address towards the rest of the world, or the only one there is; loopback where there is none.
    private static func ownAddress(isIPv4: Bool) throws(TransportError) -> String {
        // Addresses for documentation (RFC 5737, RFC 3849): the route to them is the default one.
        for outside in isIPv4 ? ["192.0.2.1"] : ["192.0.2.1", "2001:db8::1"] {
            if let own = HostAddress.towards(outside), !HostAddress.isLoopback(own) { return own }
        }
        var all = HostAddress.own(isIPv6: false)
        if !isIPv4, all.isEmpty { all = HostAddress.own(isIPv6: true) }
        guard all.count > 1 else { return all.first?.address ?? (isIPv4 ? "127.0.0.1" : "::1") }
        let list = all.map { "\($0.address) (\($0.interface))" }.joined(separator: ", ")
        throw TransportError(
            .badEndpoint, "this host has the addresses \(list); say which one others reach with --advertise ADDRESS")
    }
}

extension PeerAddress {
    /// Why the process that listens at `own` and a coordinator here could not be of one cluster, in one line with the
    /// remedy; nil when nothing is known against it.
    /// - Parameter own: what a worker tells others to dial; nil for a client.
    package func reachProblem(from own: ChannelEndpoints?) -> String? {
        if endpoints.isLoopback {
            guard let place, let here = HostPlace.current, place.network != here.network else { return nil }
            return "the coordinator listens on \(endpoints.host) of \(place.host), which only processes there reach; "
                + "start it with --listen and an address that this host reaches"
        }
        guard let own, own.isLoopback else { return nil }
        // A name such as localhost may stand for loopback, which is then this host's.
        if let address = HostAddress.resolve(endpoints.host)?.address, HostAddress.isLoopback(address) { return nil }
        return "this worker listens on \(own.host), which other hosts cannot reach, and the coordinator on "
            + "\(endpoints.host); leave --listen out, or name an address that the other workers reach"
    }
}
