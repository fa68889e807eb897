// SPDX-License-Identifier: Apache-2.0
@testable import Checkpoints

let checkpointTargets: [FuzzTarget] = [
    FuzzTarget(
        name: "safetensors",
        seeds: { try files("Tests/Fixtures/safetensors_files", ".safetensors") },
        run: { bytes in
            bytes.withUnsafeBytes { file in
                let prefix = UnsafeRawBufferPointer(rebasing: file.prefix(8))
                guard
                    let count = try? SafetensorsHeader.headerByteCount(prefix, fileByteCount: file.count, file: "f")
                else { return }
                require(8 + count <= file.count, "a header lies within its file")
                let json = UnsafeRawBufferPointer(rebasing: file[8..<8 + count])
                guard let header = try? SafetensorsHeader(json, fileByteCount: file.count, file: "f") else { return }
                for entry in header.entries {
                    require(entry.dataRange.upperBound + header.dataOffset <= file.count, "data lies within its file")
                    require(header[entry.name] == entry, "a tensor is found by its name")
                }
            }
        }),
    FuzzTarget(
        name: "model-configuration",
        seeds: { try files("Tests/Fixtures/models", "config.json") },
        run: { bytes in
            bytes.withUnsafeBytes { file in
                guard let json = try? JSONValue.parse(file, file: "config.json") else { return }
                _ = try? GenerationDefaults(json, file: "generation_config.json")
                guard let model = try? Qwen3Configuration(json, file: "config.json") else { return }
                require(model.layerCount > 0 && model.hiddenSize > 0, "a configuration is one of a model")
            }
        }),
]
