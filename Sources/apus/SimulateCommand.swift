// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterCore
import ClusterSimulation

extension PlantedFault: ExpressibleByArgument {}

/// `apus simulate`: unlucky clusters under a virtual clock.
struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Run the cluster's decisions in simulated clusters that crash, stall and lose messages.")

    @Option(help: "First seed.")
    var seed: UInt64 = 0

    @Option(name: .customShort("n"), help: "Seeds to run.")
    var count: UInt64 = 1000

    @Option(help: "Plant a mistake, to see that it is found.")
    var fault: PlantedFault?

    @Flag(help: "Tell what happens.")
    var verbose = false

    func run() throws {
        var failing = 0
        var events = 0
        var seconds: UInt64 = 0
        for seed in seed..<seed + count {
            var simulation = Simulation(
                SimulationSettings(seed: seed, fault: fault), tell: verbose ? { print($0) } : nil)
            let report = simulation.run()
            events += report.eventCount
            seconds += report.milliseconds / 1000
            if report.violations.isEmpty { continue }
            failing += 1
            print("seed \(seed): \(report.violations[0])")
        }
        print("\(count) seeds, \(events) events, \(seconds) simulated seconds: \(failing) failing")
        if failing > 0 { throw ExitStatus.jobFailed }
    }
}
