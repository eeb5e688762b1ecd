// swift-tools-version: 6.2
import PackageDescription

// A package of its own, because fuzzing needs unsafe flags. The sources are those of the project, linked into this package
// so that `package` declarations are in reach.

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .strictMemorySafety(),
]
/// Edges are counted where libFuzzer looks for them.
let counted = strict + [.unsafeFlags(["-sanitize=fuzzer"])]

let package = Package(
    name: "lathe-fuzz",
    targets: [
        .target(name: "CKernels"),
        .target(name: "LatheFormat", swiftSettings: counted),
        .target(name: "LatheCompiler", dependencies: ["LatheFormat", "CKernels"], swiftSettings: counted),
        .target(name: "Lathe", dependencies: ["LatheFormat", "CKernels"], swiftSettings: counted),
        // run.sh links libFuzzer without its `main`.
        .executableTarget(
            name: "FuzzTargets", dependencies: ["Lathe", "LatheCompiler", "LatheFormat"], swiftSettings: strict),
    ]
)
