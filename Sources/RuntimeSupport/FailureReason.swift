// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// Why something failed, without what and where. Foundation's own errors hide the system's reason and say "The operation
/// could not be completed" instead.
package func failureReason(_ error: any Error) -> String {
    guard isFoundationError(error) else { return String(describing: error) }
    let error = error as NSError
    let underlying = error.userInfo[NSUnderlyingErrorKey] as? NSError
    if let code = [error, underlying].compactMap({ $0 }).first(where: { $0.domain == NSPOSIXErrorDomain })?.code {
        let limit = code == Int(EFBIG) ? " (the limit of file sizes, ulimit -f)" : ""
        return String(cString: strerror(Int32(code))) + limit
    }
    switch CocoaError.Code(rawValue: error.code) {
    case .fileNoSuchFile, .fileReadNoSuchFile: return String(cString: strerror(ENOENT))
    case .fileReadNoPermission, .fileWriteNoPermission: return String(cString: strerror(EACCES))
    case .fileWriteOutOfSpace: return String(cString: strerror(ENOSPC))
    case .fileWriteVolumeReadOnly: return String(cString: strerror(EROFS))
    case .fileWriteFileExists: return String(cString: strerror(EEXIST))
    default: return error.localizedDescription
    }
}

/// The path that an error of Foundation is about.
package func failurePath(_ error: any Error) -> String? {
    guard isFoundationError(error) else { return nil }
    let information = (error as NSError).userInfo
    return information[NSFilePathErrorKey] as? String ?? (information[NSURLErrorKey] as? URL)?.path
}

private func isFoundationError(_ error: any Error) -> Bool {
    error is CocoaError || error is POSIXError || type(of: error) is NSError.Type
}
