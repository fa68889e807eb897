// SPDX-License-Identifier: Apache-2.0
//
// Makes a checkpoint of the parts that the members wrote: configuration, index, tokenizer, and the manifest last; then the
// directory gets its name. What lies under a name without ".partial" is whole. Older checkpoints are removed later, once
// this one is in the journal (``SavedCheckpoints``).
internal import Checkpoints
internal import ClusterCore
internal import ClusterProtocol
internal import Foundation
internal import Glibc
internal import JobSpecification
internal import Tensors

struct SnapshotSealer {
    let job: JobRecord
    let specification: TrainJob
    let partial: URL
    let version: UInt64

    /// - Returns: the directory's name.
    /// - Throws: one line.
    func seal() throws -> String {
        let target = URL(fileURLWithPath: String(partial.path.dropLast(".partial".count)), isDirectory: true)
        let seed = specification.method == .reward ? UInt64(specification.seed) : nil
        let source = try Checkpoint(
            directory: URL(fileURLWithPath: specification.model.path, isDirectory: true), freshHeadSeed: seed)
        let state = TrainingStateRecord(updates: job.updateCount(before: version))
        try write(Data((state.text + "\n").utf8), TrainingStateRecord.path)
        var configuration = source.configuration
        configuration.storageType = configuration.storageType ?? .bfloat16
        if specification.method == .reward {
            configuration = configuration.asRewardModel
            // transformers would pool before an end of answer that is also what fills a batch up.
            let files = try ModelFiles(
                source.directory, compute: specification.model.compute, version: 0, freshHeadSeed: source.freshHeadSeed)
            if let end = try files.endOfAnswer(), configuration.padTokenID == Int(end) {
                configuration.padTokenID = nil
            }
        }
        for name in TokenizerFacts.files(in: source.directory) {
            let file = source.directory.appendingPathComponent(name)
            guard let bytes = try? Data(contentsOf: file) else { continue }
            try write(bytes, name)
        }
        try writeChatTemplate(&configuration, source)
        try write(Data(configuration.fileText.utf8), "config.json")
        if configuration.generation != GenerationDefaults() {
            try write(Data(configuration.generation.fileText.utf8), "generation_config.json")
        }
        let map = SnapshotFiles.weightMap(of: configuration)
        let total = configuration.parameterTensors.reduce(0) {
            $0 + $1.elementCount * (configuration.storageType ?? .bfloat16).byteCount
        }
        let index = CheckpointIndex.json(weightMap: map, totalByteCount: total)
        try write(Data((index.prettyPrinted() + "\n").utf8), CheckpointIndex.indexFileName)
        try removeLeftovers()
        try write(Data((try manifest(source) + "\n").utf8), "manifest.json")
        if FileManager.default.fileExists(atPath: target.path) {
            // An earlier coordinator got this far and no further: no journal knows of it.
            try FileManager.default.removeItem(at: target)
        }
        try rename(to: target)
        return target.path
    }

    /// The template that the model was trained with, where the job names one, and the end of its turns: whoever generates
    /// from the checkpoint stops there.
    private func writeChatTemplate(_ configuration: inout Qwen3Configuration, _ source: Checkpoint) throws {
        let files = try ModelFiles(
            source.directory, compute: specification.model.compute, version: 0, freshHeadSeed: source.freshHeadSeed)
        let renderer = try files.renderer(files.tokenizer(), specification.chatTemplate)
        if let text = renderer.templateText { try write(Data(text.utf8), "chat_template.jinja") }
        guard specification.method != .reward else { return }
        let ends = renderer.stopIDs.map(Int.init)
        if ends != configuration.eosTokenIDs { configuration.generation.eosTokenIDs = ends }
    }

    private func write(_ data: Data, _ name: String) throws {
        let target = partial.appendingPathComponent(name)
        try FileManager.default.createDirectory(
            at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
        try DurableFile.write(String(decoding: data, as: UTF8.self), to: target)
    }

    /// What writers that were killed left half done; whoever took over has written the whole file beside it.
    private func removeLeftovers() throws {
        let names = FileManager.default.enumerator(atPath: partial.path)?.compactMap { $0 as? String } ?? []
        for name in names where name.hasSuffix(".partial") {
            try FileManager.default.removeItem(at: partial.appendingPathComponent(name))
        }
    }

    /// Every file of a checkpoint with its size, by name; without what an attempt that was cut off left, a manifest among it.
    static func files(in directory: URL) throws -> [(name: String, byteCount: Int)] {
        let names = FileManager.default.enumerator(atPath: directory.path)?.compactMap { $0 as? String } ?? []
        return try names.sorted().compactMap { name in
            guard name != "manifest.json", !name.hasSuffix(".partial") else { return nil }
            let attributes = try FileManager.default.attributesOfItem(
                atPath: directory.appendingPathComponent(name).path)
            guard attributes[.type] as? FileAttributeType == .typeRegular else { return nil }
            return (name, (attributes[.size] as? Int) ?? 0)
        }
    }

    /// Job, step, parent and every file with its size.
    private func manifest(_ source: Checkpoint) throws -> String {
        var files = JSONLine()
        for file in try Self.files(in: partial) { files.put(file.name, file.byteCount) }
        var line = JSONLine()
        line.put("files", files)
        line.put("job", ContentHash(of: Array(job.admitted.resolvedYaml.utf8)).hexadecimal)
        line.put("parent", try source.identity(withTrainingState: true).hexadecimal)
        line.put("step", Int(version))
        return line.text
    }

    private func rename(to target: URL) throws {
        guard Glibc.rename(partial.path, target.path) == 0 else {
            throw JournalError(description: "\(target.path): \(String(cString: strerror(errno)))")
        }
        let directory = open(target.deletingLastPathComponent().path, O_RDONLY | O_DIRECTORY)
        if directory >= 0 {
            fsync(directory)
            close(directory)
        }
    }
}
