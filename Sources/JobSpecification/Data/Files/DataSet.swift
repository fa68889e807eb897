// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport

/// Rows as a person has them: a file, or a folder of a Hugging Face data set. Which files a folder's rows are in is decided
/// here, for jobs, data commands and the hashes of recipes alike.
package struct DataSet: Hashable, Sendable {
    package let path: String
    /// nil: `train`, or the only one that there is.
    package let split: String?
    /// The data set's configuration, `name` of `load_dataset`; nil: its default.
    package let name: String?

    package init(_ path: String, split: String? = nil, name: String? = nil) {
        self.path = path
        self.split = split
        self.name = name
    }

    var url: URL { URL(fileURLWithPath: path).standardizedFileURL }

    /// The files with the rows, in order.
    /// - Throws: ``JobError`` with what can be chosen.
    package func files() throws(JobError) -> [URL] {
        var isDirectory: ObjCBool = false
        if FileManager.default.fileExists(atPath: url.path, isDirectory: &isDirectory), isDirectory.boolValue {
            return try DataSetFolder(url).files(split: split, name: name)
        }
        if let split, split != Self.trainSplit {
            throw JobError(.invalidValue, "is one file and has no split '\(split)'; remove data.split", file: url.path)
        }
        if let name {
            throw JobError(.invalidValue, "is one file and has no '\(name)'; remove data.name", file: url.path)
        }
        return [url]
    }

    static let trainSplit = "train"

    /// SHA-256 of the content: that of the file, or one of all files in order.
    /// - Throws: ``JobError``.
    package func hash() throws(JobError) -> String {
        var hashes: [String] = []
        for file in try files() { hashes.append(try DataFiles.hash(file)) }
        return DataFiles.combined(hashes) ?? ""
    }
}

/// A folder with a data set: a clone or cached snapshot of the hub (`configs` in README.md, or files named by their splits), or
/// what `save_to_disk` wrote.
struct DataSetFolder {
    private let root: URL

    private static let fileCountMax = 100_000
    private static let depthMax = 8

    init(_ url: URL) { root = url }

    func files(split: String?, name: String?) throws(JobError) -> [URL] {
        if let snapshot = try Self.snapshot(of: root) {
            return try DataSetFolder(snapshot).files(split: split, name: name)
        }
        if has("dataset_dict.json") {
            try refuse(name: name)
            let names = (json("dataset_dict.json")?["splits"] as? [String] ?? []).filter(Self.isName)
            let chosen = try choose(split, among: names)
            return try DataSetFolder(root.appendingPathComponent(chosen, isDirectory: true)).saved()
        }
        if has("state.json") {
            try refuse(name: name)
            if let split, let own = json("state.json")?["_split"] as? String, own != split {
                throw failure("is the split '\(own)', not '\(split)'; remove data.split")
            }
            return try saved()
        }
        let splits = try self.splits(name)
        return splits[try choose(split, among: splits.keys.sorted())] ?? []
    }

    // MARK: - save_to_disk

    private func saved() throws(JobError) -> [URL] {
        guard let state = json("state.json"), let files = state["_data_files"] as? [[String: Any]] else {
            throw failure("has no state.json with data files; was it written whole by save_to_disk?")
        }
        return files.compactMap { $0["filename"] as? String }.filter(Self.isName).map {
            root.appendingPathComponent($0)
        }
    }

    /// Whether a text from inside a data set names something in its folder and nowhere else.
    private static func isName(_ text: String) -> Bool { !text.contains("/") && text != "." && text != ".." }

    // MARK: - The hub

    /// `datasets--OWNER--NAME` of the hub's cache keeps its files below `snapshots/REVISION`.
    private static func snapshot(of root: URL) throws(JobError) -> URL? {
        let folder = root.appendingPathComponent("snapshots", isDirectory: true)
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder.path), !names.isEmpty,
            FileManager.default.fileExists(atPath: root.appendingPathComponent("blobs").path)
        else { return nil }
        let main = try? String(contentsOf: root.appendingPathComponent("refs/main"), encoding: .utf8)
        if let main = main?.trimmingCharacters(in: .whitespacesAndNewlines), names.contains(main) {
            return folder.appendingPathComponent(main, isDirectory: true)
        }
        guard names.count == 1 else {
            throw JobError(
                .invalidValue,
                "holds \(names.count) snapshots and no refs/main; name one: snapshots/\(names.sorted().joined(separator: ", snapshots/"))",
                file: root.path)
        }
        return folder.appendingPathComponent(names[0], isDirectory: true)
    }

    /// Files of each split, by what the README says or by the names of files and folders.
    private func splits(_ name: String?) throws(JobError) -> [String: [URL]] {
        let files = try dataFiles()
        let configurations = try DataSetCard(root)?.configurations ?? []
        guard !configurations.isEmpty else {
            guard let name else { return try inferred(files) }
            let inside = files.filter { $0.hasPrefix(name + "/") }
            guard !inside.isEmpty else {
                let folders = Set(
                    files.compactMap { $0.contains("/") ? $0.split(separator: "/").first.map(String.init) : nil })
                throw failure(
                    "has no configuration '\(name)'"
                        + (folders.isEmpty
                            ? "; remove data.name" : "; its folders are: \(folders.sorted().joined(separator: ", "))"))
            }
            return try inferred(inside)
        }
        let names = configurations.map(\.name)
        let chosen: DataSetCard.Configuration
        if let name {
            guard let found = configurations.first(where: { $0.name == name }) else {
                throw failure("has no configuration '\(name)'; data.name may be: \(names.joined(separator: ", "))")
            }
            chosen = found
        } else if let standard = configurations.first(where: \.isDefault)
            ?? configurations.first(where: { $0.name == "default" }) ?? (names.count == 1 ? configurations[0] : nil)
        {
            chosen = standard
        } else {
            throw failure("has several configurations; choose one with data.name: \(names.joined(separator: ", "))")
        }
        guard !chosen.patterns.isEmpty else { return try inferred(files.filter { chosen.holds($0) }) }
        var result: [String: [URL]] = [:]
        for (split, patterns) in chosen.patterns {
            let found = files.filter { file in patterns.contains { FilePattern($0).matches(file) } }
            guard !found.isEmpty else {
                throw failure(
                    "README.md names \(patterns.joined(separator: ", ")) for the split '\(split)', and no such file is "
                        + "here; was the clone complete (git lfs pull)?")
            }
            result[split, default: []] += found.map { root.appendingPathComponent($0) }
        }
        return result
    }

    /// Splits told by names, as `datasets` tells them; files that name none are training data.
    private func inferred(_ files: [String]) throws(JobError) -> [String: [URL]] {
        // A repository may hold the same rows in several forms.
        let kept = Self.oneForm(files)
        guard !kept.isEmpty else {
            throw failure(
                "is a folder without data; a data set has files that end in \(DataForm.suffixes.joined(separator: ", "))"
            )
        }
        var result: [String: [URL]] = [:]
        for file in kept {
            result[Self.split(of: file) ?? DataSet.trainSplit, default: []].append(root.appendingPathComponent(file))
        }
        return result
    }

    private static func oneForm(_ files: [String]) -> [String] {
        let groups = Dictionary(grouping: files) { file -> String in
            let suffix = DataForm.suffix(of: file) ?? ""
            return ["jsonl", "ndjson", "json"].contains(suffix) ? "json" : suffix
        }
        let order = ["parquet", "json", "csv", "tsv", "arrow"]
        return groups.max { a, b in
            (a.value.count, -(order.firstIndex(of: a.key) ?? 9)) < (b.value.count, -(order.firstIndex(of: b.key) ?? 9))
        }?.value ?? []
    }

    private static let keywords: [(split: String, words: Set<String>)] = [
        ("train", ["train", "training"]), ("validation", ["validation", "valid", "val", "dev"]),
        ("test", ["test", "testing", "eval", "evaluation"]),
    ]

    /// `data/SPLIT-00000-of-00001.parquet`, or a word in the name of the file or of a folder around it.
    static func split(of file: String) -> String? {
        let parts = file.split(separator: "/").map(String.init)
        guard let last = parts.last else { return nil }
        if let range = last.firstRange(of: #/-[0-9]{5}-of-[0-9]{5}/#), range.lowerBound > last.startIndex {
            let name = String(last[..<range.lowerBound])
            return keywords.first { $0.words.contains(name.lowercased()) }?.split ?? name
        }
        for part in parts.reversed() {
            let words = Set(part.lowercased().split { !$0.isLetter }.map(String.init))
            if let found = keywords.first(where: { !$0.words.isDisjoint(with: words) }) { return found.split }
        }
        return nil
    }

    /// Paths of all files that may hold rows, from the root, sorted by bytes; links are followed.
    private func dataFiles() throws(JobError) -> [String] {
        var found: [String] = []
        var folders = [("", 0)]
        while let (folder, depth) = folders.popLast() {
            let directory = folder.isEmpty ? root : root.appendingPathComponent(folder, isDirectory: true)
            let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
            for name in names where !name.hasPrefix(".") && !name.hasPrefix("__") {
                let path = folder.isEmpty ? name : "\(folder)/\(name)"
                var isDirectory: ObjCBool = false
                guard
                    FileManager.default.fileExists(
                        atPath: root.appendingPathComponent(path).path, isDirectory: &isDirectory)
                else { continue }
                if isDirectory.boolValue {
                    if depth < Self.depthMax { folders.append((path, depth + 1)) }
                } else if DataForm.suffix(of: name) != nil, !Self.isDescription(name) {
                    found.append(path)
                }
            }
            guard found.count + folders.count <= Self.fileCountMax else {
                throw failure("has more than \(Self.fileCountMax) files; name a folder inside")
            }
        }
        return found.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// JSON beside the data that holds no rows.
    private static func isDescription(_ name: String) -> Bool {
        ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"].contains(name)
    }

    // MARK: - Choosing

    private func choose(_ split: String?, among names: [String]) throws(JobError) -> String {
        if let split {
            guard names.contains(split) else {
                throw failure(
                    "has no split '\(split)'; data.split may be: \(names.joined(separator: ", "))"
                        + (split.contains("[") ? " (slices such as train[:100] are data.limit here)" : ""))
            }
            return split
        }
        if names.contains(DataSet.trainSplit) { return DataSet.trainSplit }
        guard names.count == 1 else {
            throw failure("has no split 'train'; choose one with data.split: \(names.joined(separator: ", "))")
        }
        return names[0]
    }

    private func refuse(name: String?) throws(JobError) {
        guard let name else { return }
        throw failure("was written by save_to_disk and has no configuration '\(name)'; remove data.name")
    }

    private func has(_ name: String) -> Bool {
        FileManager.default.fileExists(atPath: root.appendingPathComponent(name).path)
    }

    private func json(_ name: String) -> [String: Any]? {
        (try? Data(contentsOf: root.appendingPathComponent(name))).flatMap {
            try? JSONSerialization.jsonObject(with: $0) as? [String: Any]
        }
    }

    private func failure(_ text: String) -> JobError { JobError(.invalidValue, text, file: root.path) }
}
