// SPDX-License-Identifier: Apache-2.0
//
// exp, log, sin and cos. Range reduction after Cody and Waite; the polynomials are weighted minimax fits of our own
// (exp, log) or Taylor series in fp64 (sin, cos). Only fused multiply-adds, integer shifts and exact steps are used,
// so every instruction set gives the same bits.
#pragma once

/// exp: at most 1.5 ulp (Tests/CKernelsTests); results below the smallest normal number are +0.
CK_INLINE v16 exp16(v16 x) {
    const v16 shifter = splat(0x1.8p23f);
    v16 t = fma16(x, splat(0x1.715476p+0f), shifter);  // log2(e)
    v16 n = t - shifter;
    v16 r = fma16(n, splat(-0x1.62e400p-1f), x);  // ln 2, high part: 16 bits, so n * high is exact
    r = fma16(n, splat(-0x1.7f7d1cp-20f), r);     // ln 2, low part
    v16 q = splat(0x1.6a4b36p-10f);
    q = fma16(q, r, splat(0x1.12398ep-7f));
    q = fma16(q, r, splat(0x1.5558b2p-5f));
    q = fma16(q, r, splat(0x1.555492p-3f));
    q = fma16(q, r, splat(0x1.fffffcp-2f));
    v16 p = fma16(r * r, q, r) + splat(1.0f);
    // 2^n in two factors, each a normal number.
    v16i whole = (v16i)t - (int32_t)0x4b400000;
    v16i half = whole >> 1;
    v16 result = p * (v16)((half + 127) << 23) * (v16)((whole - half + 127) << 23);
    result = choose(x > splat(0x1.62e42ep+6f), splat(__builtin_inff()), result);  // above ln of the largest float
    return choose(x < splat(-0x1.5d589ep+6f), splat(0.0f), result);               // below ln of the smallest normal
}

/// log: at most 1.5 ulp; zero and denormals give -inf, negative numbers NaN.
CK_INLINE v16 log16(v16 x) {
    // x = m * 2^e with m in [sqrt(1/2), sqrt(2)).
    v16u u = bits(x) - 0x3f3504f3u;
    v16i e = (v16i)u >> 23;
    v16 m = (v16)((u & 0x007fffffu) + 0x3f3504f3u);
    v16 n = __builtin_convertvector(e, v16);
    v16 f = m - splat(1.0f);
    v16 p = splat(0x1.1484e8p-4f);
    p = fma16(p, f, splat(-0x1.de1004p-4f));
    p = fma16(p, f, splat(0x1.e6c03ep-4f));
    p = fma16(p, f, splat(-0x1.fc26acp-4f));
    p = fma16(p, f, splat(0x1.233b78p-3f));
    p = fma16(p, f, splat(-0x1.555c4ep-3f));
    p = fma16(p, f, splat(0x1.99a478p-3f));
    p = fma16(p, f, splat(-0x1.000006p-2f));
    p = fma16(p, f, splat(0x1.555548p-2f));
    v16 square = f * f;
    v16 tail = fma16(square * f, p, n * splat(0x1.7f7d1cp-20f));  // f^3 P(f) + e * (ln 2, low)
    tail = fma16(square, splat(-0.5f), tail);
    v16 result = fma16(n, splat(0x1.62e400p-1f), f + tail);
    result = choose(x < splat(0x1p-126f), splat(-__builtin_inff()), result);
    result = choose(x < splat(0.0f), splat(__builtin_nanf("")), result);
    return choose(x < splat(__builtin_inff()), result, x);  // +inf and NaN pass
}

/// sin (quadrant 0) or cos (quadrant 1), reduced and evaluated in fp64 and rounded once; |x| up to 2^20.
CK_INLINE v16 sine16(v16 x, int64_t quadrant) {
    v16d wide = __builtin_convertvector(x, v16d);
    const v16d shifter = splat_d(0x1.8p52);
    v16d t = fma16d(wide, splat_d(0x1.45f306dc9c883p-1), shifter);  // 2 / pi
    v16d n = t - shifter;
    v16d r = fma16d(n, splat_d(-0x1.921fb54442d18p+0), wide);  // pi / 2 in two parts
    r = fma16d(n, splat_d(-0x1.1a62633145c07p-54), r);
    v16d z = r * r;
    v16d s = splat_d(1.0 / 6227020800.0);
    s = fma16d(s, z, splat_d(-1.0 / 39916800.0));
    s = fma16d(s, z, splat_d(1.0 / 362880.0));
    s = fma16d(s, z, splat_d(-1.0 / 5040.0));
    s = fma16d(s, z, splat_d(1.0 / 120.0));
    s = fma16d(s, z, splat_d(-1.0 / 6.0));
    s = fma16d(s, z * r, r);
    v16d c = splat_d(1.0 / 479001600.0);
    c = fma16d(c, z, splat_d(-1.0 / 3628800.0));
    c = fma16d(c, z, splat_d(1.0 / 40320.0));
    c = fma16d(c, z, splat_d(-1.0 / 720.0));
    c = fma16d(c, z, splat_d(1.0 / 24.0));
    c = fma16d(c, z, splat_d(-0.5));
    c = fma16d(c, z, splat_d(1.0));
    v16l turn = (v16l)t + quadrant;
    v16l odd = -(turn & 1);
    v16l sign = (turn & 2) << 62;
    v16l picked = ((v16l)c & odd) | ((v16l)s & ~odd);
    return __builtin_convertvector((v16d)(picked ^ sign), v16);
}

CK_INLINE v16 silu16(v16 x) { return x / (splat(1.0f) + exp16(-x)); }

#define CK_MAP(name, expression)                                             \
    static void name(const float *input, int64_t count, float *out) {        \
        for (int64_t i = 0; i < count; i += 16) {                            \
            v16 x = load_at(input, i, count);                                \
            store_at(out, i, count, expression);                             \
        }                                                                    \
    }
CK_MAP(kernel_exp, exp16(x))
CK_MAP(kernel_log, log16(x))
CK_MAP(kernel_sin, sine16(x, 0))
CK_MAP(kernel_cos, sine16(x, 1))
#undef CK_MAP
