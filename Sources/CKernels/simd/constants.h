// The constants of the canonical float functions, shared by the scalar definitions and every vector header.
//
// The polynomials are minimax fits of this project: Lawson's iteratively reweighted least squares on 3001 Chebyshev
// nodes in float64, then each coefficient rounded to float32, lowest order first, and the rest fitted again.
// Errors named here are of the float32 functions as evaluated, not of the fits.
#ifndef LATHE_SIMD_CONSTANTS_H
#define LATHE_SIMD_CONSTANTS_H

// exp(x) = 2^n · e^r, n = rne(x · log2 e), r = fma(n, −LN2_LOW, fma(n, −LN2_HIGH, x)), |r| ≤ ln2/2,
// e^r = 1 + r·(1 + r·(C2 + r·(C3 + …))). Arguments are clamped to ±86, so that neither 2^n nor the result is denormal.
// Relative error ≤ 7.7e-8 at every float of ±86.
#define LATHE_EXP_LIMIT 86.0f
#define LATHE_LOG2_E 0x1.715476p+0f
#define LATHE_LN2_HIGH 0x1.62e430p-1f   // ln 2 rounded to float32
#define LATHE_LN2_LOW (-0x1.05c610p-29f)  // ln 2 − LN2_HIGH
#define LATHE_EXP_C2 0x1.fffffcp-2f
#define LATHE_EXP_C3 0x1.555492p-3f
#define LATHE_EXP_C4 0x1.5558b0p-5f
#define LATHE_EXP_C5 0x1.12399cp-7f
#define LATHE_EXP_C6 0x1.6a4eccp-10f

// log(x) = e·ln 2 + f + f²·(L2 + f·(L3 + …)), x = 2^e · (1 + f), √½ ≤ 1 + f < √2.
// Relative error ≤ 9.4e-8 over the normal floats.
#define LATHE_SQRT_HALF_BITS 0x3f3504f3
#define LATHE_LOG_L2 (-0x1.fffffap-2f)
#define LATHE_LOG_L3 0x1.5556f0p-2f
#define LATHE_LOG_L4 (-0x1.0004a8p-2f)
#define LATHE_LOG_L5 0x1.98d3a0p-3f
#define LATHE_LOG_L6 (-0x1.535c2ap-3f)
#define LATHE_LOG_L7 0x1.317caap-3f
#define LATHE_LOG_L8 (-0x1.2505b0p-3f)
#define LATHE_LOG_L9 0x1.65f0ecp-4f

// GELU, tanh form: x / (1 + exp(z)), z = x · fma(x², A3, A1); A1 = −2·√(2/π), A3 = 0.044715 · A1.
// Absolute error ≤ 5.2e-7 within ±8.
#define LATHE_GELU_A1 (-1.5957691216f)
#define LATHE_GELU_A3 (-0.0713548163f)

// GELU, erf form: max(x, 0) − |x| · Q(|x|), Q(a) = ½·erfc(a/√2) = exp(−a²/2) · t·(T1 + t·(T2 + …)), t = 1/(1 + P·a).
// The subtraction never cancels. Absolute error of the result ≤ 2.4e-7 within ±8 (of which 8e-9 are the fit), measured
// against float64; beyond, it is x or nearly nothing.
#define LATHE_ERFC_P 0x1.1eb852p-2f
#define LATHE_ERFC_T1 0x1.deb610p-4f
#define LATHE_ERFC_T2 0x1.0b8e0ep-4f
#define LATHE_ERFC_T3 0x1.18d4e2p-2f
#define LATHE_ERFC_T4 (-0x1.f2affap-3f)
#define LATHE_ERFC_T5 0x1.934360p-2f
#define LATHE_ERFC_T6 (-0x1.b54536p-4f)

// The largest finite half: what is stored in 16 bits is clamped to ± this.
#define LATHE_HALF_MAX 65504.0f

#endif
