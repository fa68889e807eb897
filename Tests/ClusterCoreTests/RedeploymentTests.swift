// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import ClusterTransport
import RuntimeSupport
import SwiftProtobuf
import Testing

@testable import ClusterCore

/// A model with experts that is placed, taken away and placed again.
@Suite("Redeployment")
struct RedeploymentTests {
    /// Workers that follow what they are told as processes do, with a book of routes each.
    private struct Cluster {
        var stage = Stage(expected: 3)
        var books: [String: RouteBook] = [:]
        var tables: [String: [UInt32: RouteBook.Table]] = [:]
        var held: [String: [UInt32: WireDeploy]] = [:]
        /// Numbers of deploys and of routes in the order in which anybody heard of them.
        var deployEpochs: [UInt64] = []
        var routesEpochs: [UInt64] = []

        init() {
            for (index, name) in ["a", "b", "c"].enumerated() { join(name, UInt64(index + 1)) }
        }

        mutating func join(_ name: String, _ incarnation: UInt64) {
            if books[name] == nil { books[name] = RouteBook() }
            stage.hello(name, incarnation: incarnation)
            follow()
        }

        mutating func die(_ name: String) {
            books[name] = nil
            stage.say(
                name, incarnation: stage.coordinator.members.values.first { $0.identity.rawValue == name }!.incarnation
            ) {
                $0.goodbye.reason = "lost"
            }
            follow()
        }

        /// Ends what runs and begins a job on another model.
        mutating func run(_ path: String) {
            if let job = stage.coordinator.current?.id {
                var cancel = WireEnvelope()
                cancel.cancelJob.job = job
                stage.apply(.message(cancel, from: PeerIdentity("operator"), role: .admin))
                follow()
            }
            stage.admit(experts: 8, path: path)
            follow()
        }

        /// Plays everybody's part until nobody has anything to say.
        mutating func follow() {
            var effects = stage.effects
            while !effects.isEmpty {
                guard case .send(let envelope, let peer) = effects.removeFirst() else { continue }
                let name = peer.rawValue
                guard books[name] != nil else { continue }
                switch envelope.body {
                case .welcome(let welcome): books[name]!.welcome(as: welcome.worker, peer)
                case .allowPeer(let allow): publish(name, books[name]!.name(allow.worker, PeerIdentity(allow.identity)))
                case .forgetPeer(let gone): publish(name, books[name]!.forget(gone.worker, PeerIdentity(gone.identity)))
                case .routes(let routes):
                    routesEpochs.append(routes.epoch)
                    publish(name, books[name]!.take(routes))
                case .undeploy(let undeploy):
                    books[name]!.undeploy(undeploy.model)
                    tables[name, default: [:]][undeploy.model] = nil
                    held[name, default: [:]][undeploy.model] = nil
                case .deploy(let deploy):
                    deployEpochs.append(deploy.epoch)
                    held[name, default: [:]][deploy.model.id] = deploy
                    report(deploy, name)
                    effects += stage.effects
                default: break
                }
            }
        }

        mutating func report(_ deploy: WireDeploy, _ name: String) {
            let member = stage.coordinator.members.values.first { $0.identity.rawValue == name }!
            stage.say(name, incarnation: member.incarnation) {
                $0.shardReport = .with {
                    $0.model = deploy.model.id
                    $0.epoch = deploy.epoch
                    $0.isTrunkReady = true
                    $0.experts = deploy.experts
                }
            }
        }

        private mutating func publish(_ name: String, _ new: [RouteBook.Table]) {
            for table in new {
                let known = tables[name, default: [:]][table.model]
                #expect(known == nil || known!.revision < table.revision)
                tables[name, default: [:]][table.model] = table
            }
        }

        /// Whether every worker asks for each expert where it is.
        func isRight(_ model: UInt32) -> Bool {
            let live = books.keys.sorted()
            return live.allSatisfy { name in
                guard let table = tables[name]?[model], table.holders.count == 8 else { return false }
                return table.holders.enumerated().allSatisfy { expert, holders in
                    !holders.isEmpty
                        && holders.allSatisfy { held[$0.rawValue]?[model]?.experts.contains(UInt32(expert)) == true }
                }
            }
        }
    }

    @Test("after a loss, a job on another model and one on the first again: everybody knows who holds what")
    func afterALoss() {
        var cluster = Cluster()
        cluster.run("first")
        #expect(cluster.isRight(1))
        cluster.die("b")
        #expect(cluster.isRight(1))
        cluster.run("second")
        #expect(cluster.isRight(2))
        cluster.run("first")
        #expect(cluster.isRight(1))
        // The same routes go to several workers under one number; a deploy's is its own.
        #expect(cluster.routesEpochs == cluster.routesEpochs.sorted(), "\(cluster.routesEpochs)")
        #expect(cluster.deployEpochs == Set(cluster.deployEpochs).sorted(), "\(cluster.deployEpochs)")
        // A later coordinator goes on above.
        let last = max(cluster.deployEpochs.max()!, cluster.routesEpochs.max()!)
        (cluster.deployEpochs, cluster.routesEpochs) = ([], [])
        cluster.stage.restart()
        cluster.join("a", 1)
        cluster.join("c", 3)
        let later = cluster.deployEpochs + cluster.routesEpochs
        #expect(!later.isEmpty && later.allSatisfy { $0 > last })
        #expect(cluster.isRight(1))
    }

    @Test("what a worker says late of an earlier deployment is not believed")
    func lateReports() {
        var cluster = Cluster()
        cluster.run("first")
        let old = cluster.held["a"]![1]!
        cluster.run("second")
        cluster.report(old, "a")
        #expect(cluster.stage.sent(to: "a").contains { $0.undeploy.model == 1 }, "it may have missed it")
        #expect(cluster.stage.coordinator.members.values.allSatisfy { $0.reports[1] == nil })
        cluster.run("first")
        var wrong = old
        wrong.experts = (0..<8).map { $0 }
        cluster.report(wrong, "a")
        #expect(cluster.isRight(1))
        #expect(cluster.stage.coordinator.deployments[1]!.placement.held[1]!.count < 8)
    }

    @Test("a worker's own late reports end with the deployment they are of")
    func workerReports() {
        let start = MonotonicInstant(nanoseconds: 1_000_000_000)
        var session = WorkerSession(incarnation: 1, hello: WireHello(), now: start)
        func receive(_ fill: (inout WireEnvelope) -> Void) {
            _ = session.apply(
                .message(
                    .with {
                        $0.epoch = 1
                        fill(&$0)
                    }), at: start)
        }
        func said(_ epoch: UInt64) -> Bool {
            let report = WireShardReport.with {
                $0.model = 1
                $0.epoch = epoch
            }
            return !session.apply(.shards(report), at: start).isEmpty
        }
        receive { $0.welcome.worker = 1 }
        receive {
            $0.deploy.model.id = 1
            $0.deploy.epoch = 5
        }
        #expect(said(5))
        receive { $0.undeploy.model = 1 }
        #expect(!said(5))
        receive {
            $0.deploy.model.id = 1
            $0.deploy.epoch = 9
        }
        #expect(!said(5) && said(9))
    }

    @Test("what did not get out is made up for by a hello, once a second at most")
    func lostMessages() {
        func instant(_ milliseconds: UInt64) -> MonotonicInstant {
            MonotonicInstant(nanoseconds: (1000 + milliseconds) * 1_000_000)
        }
        var session = WorkerSession(incarnation: 1, hello: WireHello(), now: instant(0))
        _ = session.apply(.connected, at: instant(0))
        let welcome = WireEnvelope.with {
            $0.epoch = 1
            $0.welcome.worker = 1
        }
        _ = session.apply(.message(welcome), at: instant(0))
        func hellos(at milliseconds: UInt64) -> Int {
            session.apply(.tick(WireBeat()), at: instant(milliseconds)).count {
                if case .send(let envelope) = $0, case .hello? = envelope.body { true } else { false }
            }
        }
        #expect(hellos(at: 1500) == 0)
        _ = session.apply(.messageLost, at: instant(1500))
        #expect(hellos(at: 1600) == 1)
        _ = session.apply(.message(welcome), at: instant(1700))
        _ = session.apply(.messageLost, at: instant(1700))
        #expect(hellos(at: 1800) == 0, "too soon")
        #expect(hellos(at: 2700) == 1, "and not forgotten")
        _ = session.apply(.message(welcome), at: instant(2800))
        #expect(hellos(at: 5000) == 0)
    }

    @Test("a welcome names who is there and which training epochs are over; a missed undeploy is said again")
    func welcome() {
        var cluster = Cluster()
        cluster.run("first")
        cluster.stage.hello("a", incarnation: 1)
        let welcome = cluster.stage.sent(to: "a").compactMap {
            if case .welcome(let welcome)? = $0.body { welcome } else { nil }
        }.first
        #expect(welcome?.peers == ["b", "c"])
        #expect(welcome?.firstTrainingEpoch == UInt32(1 << 16 | 1))
        // It was away while the model was taken from it.
        cluster.run("second")
        cluster.stage.hello("a", incarnation: 1, shards: [cluster.held["b"]![2]!.model.id, 1])
        #expect(cluster.stage.sent(to: "a").contains { $0.undeploy.model == 1 })
        #expect(!cluster.stage.sent(to: "a").contains { $0.undeploy.model == 2 })
    }

    @Test("a table changes when a name behind a number does, and not without need")
    func names() {
        var book = RouteBook()
        let (own, other) = (PeerIdentity("own"), PeerIdentity("other"))
        func routes(_ epoch: UInt64, _ holders: [[UInt32]]) -> WireRoutes {
            .with {
                $0.model = 1
                $0.epoch = epoch
                $0.holders = holders.map { workers in .with { $0.workers = workers } }
            }
        }
        book.welcome(as: 1, own)
        #expect(book.take(routes(3, [[1], [2]])).map(\.holders) == [[[own], []]])
        let named = book.name(2, other)
        #expect(named.map(\.holders) == [[[own], [other]]] && named[0].revision == 2)
        #expect(book.take(routes(2, [[1], [1]])).isEmpty, "older")
        #expect(book.take(routes(4, [[1], [2]])).isEmpty, "the same")
        #expect(book.forget(2, PeerIdentity("someone")).isEmpty)
        #expect(book.forget(2, other).map(\.holders) == [[[own], []]])
        book.undeploy(1)
        let again = book.take(routes(5, [[1], []]))
        #expect(again.map(\.holders) == [[[own], []]] && again[0].revision == 4)
    }
}
