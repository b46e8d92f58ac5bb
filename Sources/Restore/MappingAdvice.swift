import CRestoreProgram
import SnapshotFormat

extension Mapping {
  /// What `madvise(2)` and its like must be told about a mapping, once before it is filled and once after.
  var advice: (before: [Operation], after: [Operation]) {
    func advise(_ advice: UInt64, check: restore_check = RESTORE_MUST_SUCCEED) -> Operation {
      .advise(start, end - start, advice, check: check)
    }
    var before: [Operation] = []
    var after: [Operation] = []
    // linux/mman.h: MADV_HUGEPAGE 14, NOHUGEPAGE 15, DONTDUMP 16, RANDOM 1, SEQUENTIAL 2, MERGEABLE 12, GUARD_INSTALL
    // 102.
    if flags.contains(.hugePage) { before.append(advise(14, check: RESTORE_MAY_FAIL)) }
    if flags.contains(.noHugePage) { before.append(advise(15, check: RESTORE_MAY_FAIL)) }
    if flags.contains(.mergeable) { after.append(advise(12, check: RESTORE_MAY_FAIL)) }
    if flags.contains(.random) { after.append(advise(1)) }
    if flags.contains(.sequential) { after.append(advise(2)) }
    // Droppable memory is never dumped, whatever it is told.
    if flags.contains(.dontDump), !flags.contains(.droppable) { after.append(advise(16)) }
    after += guards.map { .advise($0[0], $0[1], 102) }
    return (before, after)
  }
}
