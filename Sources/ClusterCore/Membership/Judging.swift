// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol

extension WireJudgingAbility {
    /// Why a worker cannot judge the responses of a job; nil: it can.
    package func problem(_ needs: WireJudgingNeeds) -> String? {
        if needs.parsers, !parserProblem.isEmpty { return parserProblem }
        if needs.programs, !programProblem.isEmpty { return programProblem }
        if !needs.judgeHost.isEmpty, !allowsHost(needs.judgeHost) {
            return "its --judge-host does not allow the judge's host \(needs.judgeHost)"
        }
        if !needs.judgeVariable.isEmpty, !allowsVariable(needs.judgeVariable) {
            return "its --judge-variable does not allow \(needs.judgeVariable)"
        }
        return nil
    }

    /// - Parameter host: HOST:PORT.
    package func allowsHost(_ host: String) -> Bool {
        let name = host.lastIndex(of: ":").map { String(host[..<$0]) } ?? host
        return judgeHosts.contains { $0 == "*" || $0 == host || $0 == name }
    }

    package func allowsVariable(_ name: String) -> Bool { judgeVariables.contains { $0 == "*" || $0 == name } }
}

extension Coordinator {
    /// Why a worker can generate nothing for a job: it could not judge what comes of it.
    func judgingProblem(_ worker: WorkerNumber, _ admitted: WireJobAdmitted) -> String? {
        guard let member = members[worker], let problem = member.hello.judging.problem(admitted.judging) else {
            return nil
        }
        return "\(member.name): \(problem)"
    }

    /// Why no worker at all can; nil while one can or there is none yet.
    func judgingShortfall(_ admitted: WireJobAdmitted) -> String? {
        let problems = liveWorkers.map { judgingProblem($0, admitted) }
        guard !problems.isEmpty, !problems.contains(nil) else { return nil }
        return "no worker can judge the job's responses: " + problems.compactMap { $0 }.joined(separator: "; ")
    }
}
