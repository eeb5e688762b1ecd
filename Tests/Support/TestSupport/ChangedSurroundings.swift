#if os(Linux)
    import Foundation

    /// Shell commands that run `"$0" "$@"` in a world that is not as usual. The world outside stays as it is.
    public enum ChangedSurroundings {
        /// Whether this process may see files otherwise than others do.
        public static let canUnshareMounts = run("/bin/sh", ["-c", "unshare --mount true"])

        /// Without /proc.
        public static let withoutProc = inMounts("mount -t tmpfs none /proc")
        /// No file system can be written to, but for the one where output goes that a test gave already.
        public static let readOnly = inMounts(
            "for point in $(awk '{ print $5 }' /proc/self/mountinfo); do mount -o remount,ro,bind \"$point\" || :; done"
        )

        private static func inMounts(_ change: String) -> String {
            let quoted = change.replacing("'", with: #"'\''"#)
            return #"exec unshare --mount sh -c '\#(quoted); exec "$0" "$@"' "$0" "$@""#
        }

        /// The toolchain's own compiler, or another.
        public static let compiler: String? = {
            var candidates = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map {
                "\($0)/clang"
            }
            candidates += ["/usr/bin/cc"]
            return candidates.first { FileManager.default.isExecutableFile(atPath: $0) }
        }()

        /// Compiles a library for LD_PRELOAD in which the clock of the day jumps a day back or forth at every third look.
        /// - Returns: its path, in `folder`.
        public static func jumpingClock(in folder: String) throws -> String {
            let source = """
                #define _GNU_SOURCE
                #include <stdatomic.h>
                #include <stddef.h>
                #include <sys/syscall.h>
                #include <sys/time.h>
                #include <time.h>
                #include <unistd.h>

                static long jump(void) {
                  static atomic_long looks;
                  return (looks++ / 3 % 3 - 1) * 86400;
                }
                int clock_gettime(clockid_t clock, struct timespec *now) {
                  const int result = (int)syscall(SYS_clock_gettime, clock, now);
                  if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += jump();
                  return result;
                }
                int gettimeofday(struct timeval *now, void *zone) {
                  struct timespec t;
                  (void)zone;
                  clock_gettime(CLOCK_REALTIME, &t);
                  now->tv_sec = t.tv_sec;
                  now->tv_usec = t.tv_nsec / 1000;
                  return 0;
                }
                time_t time(time_t *out) {
                  struct timespec t;
                  clock_gettime(CLOCK_REALTIME, &t);
                  if (out != NULL) *out = t.tv_sec;
                  return t.tv_sec;
                }

                """
            let (input, output) = ("\(folder)/jump.c", "\(folder)/jump.so")
            try source.write(toFile: input, atomically: false, encoding: .utf8)
            guard let compiler, run(compiler, ["-O1", "-shared", "-fPIC", "-o", output, input]) else {
                throw CocoaError(.executableLoad)
            }
            return output
        }

        private static func run(_ program: String, _ arguments: [String]) -> Bool {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: program)
            process.arguments = arguments
            process.standardOutput = FileHandle.nullDevice
            process.standardError = FileHandle.nullDevice
            guard (try? process.run()) != nil else { return false }
            process.waitUntilExit()
            return process.terminationStatus == 0
        }
    }
#endif
