// SPDX-License-Identifier: Apache-2.0
import JobSpecification

/// A job's settings with where each comes from.
enum SettingsTable {
    /// Lines to print.
    /// - Parameter all: defaults of the program too.
    static func lines(_ reading: JobReading, file: String, all: Bool) -> [String] {
        let shown = reading.settings.filter { all || $0.origin != .standard }
        let values = shown.map { text($0) }
        let names = shown.map(\.path.count).max() ?? 0
        let width = min(48, values.map(\.count).max() ?? 0)
        var lines = zip(shown, values).map { setting, value in
            "  \(Format.pad(setting.path, names))  \(Format.pad(value, width))  \(origin(setting.origin, file))"
        }
        let rest = reading.settings.count - shown.count
        if rest > 0 { lines.append("  and \(rest) settings that have their defaults (apus plan --all shows them)") }
        return lines
    }

    /// What was found from the checkpoint, a line each.
    static func derived(_ reading: JobReading) -> [String] {
        let shown = reading.settings.filter {
            if case .checkpoint = $0.origin { true } else { false }
        }
        let names = shown.map(\.path.count).max() ?? 0
        let width = shown.map { text($0).count }.max() ?? 0
        return shown.map { setting in
            guard case .checkpoint(let reason) = setting.origin else { return "" }
            return "  \(Format.pad(setting.path, names))  \(Format.pad(text(setting), width))  \(reason)"
        }
    }

    private static func text(_ setting: JobReading.Setting) -> String {
        if case .open = setting.origin { return "?" }
        guard case .integer(let count) = setting.value, setting.path.hasSuffix("_bytes") else {
            return setting.value.brief
        }
        return Format.bytes(count)
    }

    private static func origin(_ origin: JobReading.Setting.Origin, _ file: String) -> String {
        switch origin {
        case .line(let line): "\(file):\(line)"
        case .override(let source): source
        case .checkpoint(let reason): "from the checkpoint: \(reason)"
        case .open: "found by the coordinator, from the checkpoint"
        case .standard: "default"
        }
    }
}
