// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// Whether programs can be run here at all.
package enum SandboxAvailability {
    /// Why not, in one line; nil: they can. Tried once, by a program that tries what it must not do.
    package static let problem: String? = {
        let result = ProgramRunner.here(
            ProgramRun(source: probe, processorMilliseconds: 10_000))
        if result.end == .unavailable { return result.detail }
        let said = String(decoding: result.output.isEmpty ? result.error : result.output, as: UTF8.self).trimmed
        return said == "sealed" ? nil : "no sandbox on this host: a python3 in it said '\(said.suffix(200))'"
    }()

    private static let probe = """
        import os
        problems = []
        for path in ("/x", "/dev/x", "/usr/x", "/etc/x"):
            try: problems.append(os.close(os.open(path, os.O_WRONLY | os.O_CREAT)) or path + " is writable")
            except OSError: pass
        try: problems.append(os.fork() and "processes can be started")
        except OSError: pass
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        if int(status["CapEff"], 16) or int(status["CapBnd"], 16): problems.append("it has capabilities")
        if status["Seccomp"].strip() != "2": problems.append("there is no seccomp filter")
        os.write(1, (", ".join(problems) or "sealed").encode())
        """
}
