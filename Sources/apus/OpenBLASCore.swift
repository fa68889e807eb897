// SPDX-License-Identifier: Apache-2.0
import CKernels
import Glibc

/// OpenBLAS chooses its kernels when it is loaded, by a list of CPUs that ends with its release: on a newer one it falls
/// back to SSE3, and two hosts of one cluster may choose differently. So the choice is made here, the same on every host
/// with AVX2 (Documentation/Decisions/0009-one-blas-kernel.md), in the environment of a second start of this program:
/// what a user's environment says for other programs would be other bits.
enum OpenBLASCore {
    /// Starts the program again with the choice made, unless it is.
    static func pin() {
        guard CommandLine.arguments.dropFirst().first != "verifier-child" else { return }
        let core = String(cString: ck_isa()) == "reference" ? "PRESCOTT" : "HASWELL"
        // One thread: its own would only compete with ours.
        let wanted = [("OPENBLAS_CORETYPE", core), ("OPENBLAS_NUM_THREADS", "1")]
        let isSet = wanted.allSatisfy { name, value in
            getenv(name).map { String(cString: $0).uppercased() == value } ?? false
        }
        if isSet { return }
        for (name, value) in wanted { setenv(name, value, 1) }
        execv("/proc/self/exe", CommandLine.unsafeArgv)
        // Where /proc is missing the program runs on with OpenBLAS's own choice.
    }
}
