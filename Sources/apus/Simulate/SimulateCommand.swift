// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterCore
import ClusterPlanning
import ClusterSimulation
import Foundation

extension PlantedFault: ExpressibleByArgument {}

/// `apus simulate`: clusters that are not there, to plan them or to break them.
struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Plan a cluster before renting it, or try the cluster's decisions under simulated faults.",
        discussion: """
            With --model, --hosts, --workers or --job: predicts time, memory, bytes on the wire and hot spots of one step, \
            with the scheduler, placement and memory plan that a real cluster has. `apus simulate calibrate` measures this \
            machine and says how far predictions are off here.
            Without: runs seeds of clusters that crash, stall and lose messages, and checks what the cluster promises.
            """, subcommands: [CalibrateCommand.self])

    @OptionGroup(title: "Planning")
    var planning: PlanningOptions

    @Option(help: "First seed.")
    var seed: UInt64 = 0

    @Option(name: .customShort("n"), help: "Seeds to run.")
    var count: UInt64 = 1000

    @Option(help: "Plant a mistake, to see that it is found.")
    var fault: PlantedFault?

    @Flag(help: "Tell what happens.")
    var verbose = false

    func run() throws {
        if planning.isAsked {
            try reporting(ExitStatus.badInput) {
                let plan = try ClusterPlan(try planning.request())
                PlanTable.print(plan)
                if let json = planning.json { try PlanTable.write(plan, to: URL(fileURLWithPath: json)) }
            }
            return
        }
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
