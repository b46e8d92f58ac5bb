internal import Linux
internal import Logging
public import SnapshotFormat
internal import SystemPackage

extension WorkingSet {
  /// What a restored process has used so far: the pages that it no longer shares with its template, and the pages of
  /// files that it has mapped, of which the kernel has mapped none that was not asked for (RESTORE_ORDER_WATCH).
  ///
  /// To be called while the template lives, soon after the first reply.
  public init(usedBy processID: Int32, of manifest: SnapshotManifest) throws(RestoreError) {
    do {
      let pages = try PageMap(process: processID)
      var written: [Range] = []
      var read: [Range] = []
      for mapping in manifest.process.mappings {
        if mapping.canBeCopiedAhead {
          for run in try pages.exclusiveRuns(from: mapping.start, to: mapping.end) {
            written.append(Range(start: run.start, length: run.end - run.start))
          }
        }
        if mapping.canBeMappedAhead {
          for run in try pages.regions(from: mapping.start, to: mapping.end) where run.isFile && !run.isGuard {
            read.append(Range(start: run.start, length: run.end - run.start))
          }
        }
      }
      self.init(written: written, read: read)
    } catch { throw RestoreError(wrapping: error) }
  }

  /// A page of each mapping of a file whose read pages clones shall have from their first instruction: a fork leaves out
  /// the page tables of private mappings that have no page of their own, as the kernel can map files' pages again
  /// (`vma_needs_copy` of mm/memory.c).
  func pagesToOwn(of manifest: SnapshotManifest) -> [Range] {
    var result: [Range] = []
    var next = 0
    for mapping in manifest.process.mappings {
      while next < read.count, read[next].start + read[next].length <= mapping.start { next += 1 }
      guard next < read.count, read[next].start < mapping.end, mapping.canBeMappedAhead,
        !mapping.flags.contains(.shared), mapping.extents.isEmpty
      else { continue }
      result.append(Range(start: max(read[next].start, mapping.start), length: 4096))
    }
    return result
  }

  /// The name of its file in a snapshot's directory.
  public static var fileName: String { "working-set" }

  /// Reads the one that was recorded; nil if there is none, or it is not to be trusted.
  init?(recordedIn directory: FilePath, for manifest: SnapshotManifest, _ logger: Logger) {
    let path = directory.appending(WorkingSet.fileName)
    guard let bytes = try? ProcessFiles.bytes(path.string) else { return nil }
    do {
      try self.init(decoding: bytes, for: manifest)
    } catch {
      logger.warning("\(path) is not used: \(error); it will be recorded anew")
      return nil
    }
  }
}
