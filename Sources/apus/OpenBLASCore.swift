// SPDX-License-Identifier: Apache-2.0
import CKernels
import Glibc

/// OpenBLAS chooses its kernels when it is loaded, by a list of CPUs that ends with its release: on a newer one it falls
/// back to SSE3, and two hosts of one cluster may choose differently. So the choice is made here, by what the CPU can do,
/// in the environment of a second start of this program.
enum OpenBLASCore {
    /// Starts the program again with the choice made, unless it is.
    static func pin() {
        guard getenv("OPENBLAS_CORETYPE") == nil, CommandLine.arguments.dropFirst().first != "verifier-child" else {
            return
        }
        let core =
            switch String(cString: ck_isa()) {
            case "avx512", "avx512bf16": "SKYLAKEX"
            case "avx2": "HASWELL"
            default: "PRESCOTT"
            }
        setenv("OPENBLAS_CORETYPE", core, 1)
        // Its own threads would only compete with ours.
        setenv("OPENBLAS_NUM_THREADS", "1", 1)
        execv("/proc/self/exe", CommandLine.unsafeArgv)
        // Where /proc is missing the program runs on with OpenBLAS's own choice.
    }
}
