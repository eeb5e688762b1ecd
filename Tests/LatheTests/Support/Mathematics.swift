#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

// Double-precision functions of the C library under names that collide with nothing.

func _exp(_ x: Double) -> Double { exp(x) }
func _log(_ x: Double) -> Double { log(x) }
func _tanh(_ x: Double) -> Double { tanh(x) }
func _erf(_ x: Double) -> Double { erf(x) }
