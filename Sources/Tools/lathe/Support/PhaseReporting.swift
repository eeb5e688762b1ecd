import LatheCompiler
import LatheWorkbench

/// Shows how far a conversion is, and tells a profiler when its weights begin and when only writing is left.
struct ConversionPhases {
    private final class State { var phase = "read" }
    private let state = State()

    func show(_ progress: Compiler.Progress) {
        ProgressBar.show(progress)
        let phase =
            progress.completedBytes >= progress.totalBytes
            ? "sync" : progress.tensor.hasPrefix("calibrating ") ? "calibrate" : "weights"
        guard phase != state.phase else { return }
        state.phase = phase
        PhaseMarks.mark(phase)
    }
}

enum PhaseReporting {
    /// Tells a profiler of phases from now on, if one has started this process.
    static func begin(budget: ByteCount?) {
        guard let pipe = Commission.current.takePhases() else { return }
        PhaseMarks.connect(process: SupervisedProcess.ownID) { PhasePipe.tell($0, on: pipe) }
        if let budget { PhaseMarks.budget(budget.bytes) }
    }
}
