// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Testing
