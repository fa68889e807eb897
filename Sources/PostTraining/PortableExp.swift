// SPDX-License-Identifier: Apache-2.0

/// log(1 + x) in fp64 for x from 0 to 1, as 2 artanh(x / (2 + x)): z² is 1/9 at most, so that the series ends below the
/// last place.
func portableLog1p(_ x: Double) -> Double {
    let z = x / (2 + x)
    let square = z * z
    var sum = 0.0
    for degree in stride(from: 37.0, through: 1, by: -2) { sum = sum * square + 1 / degree }
    return 2 * z * sum
}

/// e^x in fp64 within two units in the last place, by operations that every host rounds alike: libm picks variants per
/// CPU, and an importance ratio must not.
func portableExp(_ x: Double) -> Double {
    if x.isNaN { return x }
    if x > 709.7 { return .infinity }
    if x < -745 { return 0 }
    let n = (x * 1.4426950408889634).rounded()
    let r = (x - n * 0.6931471803691238) - n * 1.9082149292705877e-10
    var sum = 1.0 / 6_227_020_800
    for factorial in [479_001_600.0, 39_916_800, 3_628_800, 362_880, 40_320, 5_040, 720, 120, 24, 6, 2, 1, 1] {
        sum = sum * r + 1 / factorial
    }
    // In two factors: 2^n alone may be out of range.
    let half = Int(n) / 2
    return sum * Double(sign: .plus, exponent: half, significand: 1)
        * Double(sign: .plus, exponent: Int(n) - half, significand: 1)
}
