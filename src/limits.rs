//! Decides every bound of the gateway, each with its unit. Never read from a clock or a file: a bound that operators may
//! change has its default here and its setting in `config`.

use std::ops::RangeInclusive;

// Names.
/// Digits of a division code (GB/T 2260).
pub const DIVISION_DIGITS: RangeInclusive<usize> = 6..=12;
/// Bytes of the name of a system, a hub or a person.
pub const NAME_BYTES_MAX: usize = 32;
/// Bytes of an alliance's name (the SPIFFE trust domain).
pub const ALLIANCE_BYTES_MAX: usize = 64;
/// Bytes of a URI name in a certificate (SPIFFE).
pub const URI_BYTES_MAX: usize = 2048;

// Time.
/// Milliseconds since 1970 that fit six bytes.
pub const TIME_MS_MAX: u64 = (1 << 48) - 1;
/// Milliseconds that a sender's clock may run ahead of ours.
pub const CLOCK_AHEAD_MS_MAX: u64 = 10 * 60 * 1000;
/// Milliseconds after `created_at` for which a message id is remembered: 400 days.
pub const ID_WINDOW_MS: u64 = 400 * DAY_MS;
/// Milliseconds from acceptance to expiry when the sender names no `expires_at`: 7 days.
pub const TIME_TO_LIVE_MS: u64 = 7 * DAY_MS;
/// Milliseconds of a day.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Milliseconds of an hour.
pub const HOUR_MS: u64 = 60 * 60 * 1000;

// An envelope.
/// Bytes of an item code; the national codes have 31 or 33.
pub const ITEM_CODE_BYTES_MAX: usize = 40;
/// Bytes of a case number; the national column has 50.
pub const CASE_NO_BYTES_MAX: usize = 64;
/// Bytes of a step's name.
pub const STEP_BYTES_MAX: usize = 24;
/// Parts of one message.
pub const PARTS_MAX: usize = 64;
/// Bytes of all inline parts of one message together: 1 MiB.
pub const INLINE_BYTES_MAX: usize = 1 << 20;
/// Bytes of one attachment: 4 GiB.
pub const ATTACHMENT_BYTES_MAX: u64 = 4 << 30;
/// Bytes of one attachment in sealed form: its bytes, and a little for each chunk.
pub const SEALED_ATTACHMENT_BYTES_MAX: u64 = ATTACHMENT_BYTES_MAX + (ATTACHMENT_BYTES_MAX >> 10);
/// Bytes of a sealed part list: the inline contents and the list itself.
pub const SEALED_BYTES_MAX: usize = INLINE_BYTES_MAX + (64 << 10);
/// Bytes of one chunk of an attachment on the wire: 256 KiB.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;
/// Hubs that one message may pass.
pub const RELAYS_ON_THE_WAY_MAX: usize = 2;
/// Bytes of a part's name.
pub const PART_NAME_BYTES_MAX: usize = 255;
/// Bytes of a part's media type.
pub const MEDIA_TYPE_BYTES_MAX: usize = 127;
/// Bytes of a part's salt.
pub const SALT_BYTES: usize = 16;
/// Attributes of one message.
pub const ATTRIBUTES_MAX: usize = 32;
/// Bytes of an attribute's key.
pub const ATTRIBUTE_KEY_BYTES_MAX: usize = 64;
/// Bytes of an attribute's value.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1024;
/// Bytes of a W3C `traceparent`.
pub const TRACEPARENT_BYTES_MAX: usize = 128;
/// Bytes of the free text that may stand beside a negative outcome.
pub const DETAIL_BYTES_MAX: usize = 1024;

// Evidence.
/// Bytes of one leaf.
pub const LEAF_BYTES_MAX: usize = 640;
/// Reason codes in one leaf.
pub const REASONS_MAX: usize = 2;
/// Bytes of a reason code or of the one free token beside it.
pub const REASON_BYTES_MAX: usize = 32;
/// Bytes of an agreement's id in a leaf.
pub const AGREEMENT_BYTES_MAX: usize = 24;
/// Bytes of a log's name: the longest member, alliance, instance and generation together.
pub const LOG_ORIGIN_BYTES_MAX: usize = 160;
/// Milliseconds by which our own clock may be wrong, as stated in each leaf unless configured.
pub const CLOCK_UNCERTAINTY_MS: u32 = 1000;
/// Rejection leaves written for one identity in one second; further rejections are answered without one.
pub const REJECTION_LEAVES_PER_S: u32 = 10;

// Connections.
/// Milliseconds for a TLS handshake.
pub const HANDSHAKE_MS: u64 = 5_000;
/// Milliseconds from the handshake's end to a complete HTTP/2 preface.
pub const PREFACE_MS: u64 = 5_000;
/// Milliseconds for one HTTP/2 frame, and for one header block, from first byte to last.
pub const FRAME_MS: u64 = 10_000;
/// Handshakes under way at once.
pub const HANDSHAKES_MAX: usize = 256;
/// Handshakes under way at once from one address.
pub const HANDSHAKES_PER_SOURCE_MAX: usize = 32;
/// Connections open at once.
pub const CONNECTIONS_MAX: usize = 10_240;
/// File descriptors kept free for the store and for dialling.
pub const DESCRIPTORS_RESERVED: u64 = 64;
/// Milliseconds of the shortest and the longest pause after a failed accept.
pub const ACCEPT_BACKOFF_MS: RangeInclusive<u64> = 50..=1_000;
/// Streams open at once on one connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// Streams that one connection may make us reset before it is closed (RUSTSEC-2024-0003).
pub const LOCAL_RESETS_MAX: usize = 128;
/// Bytes of a decoded header list.
pub const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Metadata entries of one request.
pub const METADATA_MAX: usize = 64;
/// Seconds between HTTP/2 keepalive pings, and for their answer.
pub const KEEPALIVE_S: (u64, u64) = (30, 10);
/// Milliseconds after which a connection is asked to close (GOAWAY), give or take a tenth; cut `CONNECTION_GRACE_MS` later.
pub const CONNECTION_AGE_MS: u64 = 60 * 60 * 1000;
/// Milliseconds between a GOAWAY and the cut.
pub const CONNECTION_GRACE_MS: u64 = 30_000;
/// Milliseconds that a connection which we ended waits for its peer to end it too.
pub const LINGER_MS: u64 = 2_000;
/// Milliseconds that a stopping server waits for its calls.
pub const DRAIN_MS: u64 = 25_000;
/// Certificates in a chain, the leaf and the root counted.
pub const CHAIN_MAX: usize = 3;
/// Days that a certificate may be valid.
pub const CERTIFICATE_DAYS_MAX: u32 = 398;
/// Bytes of a certificate's serial number (RFC 5280 4.1.2.2).
pub const SERIAL_BYTES_MAX: usize = 20;
/// Bits of the modulus of an RSA key.
pub const RSA_BITS_MIN: usize = 2048;
/// Characters of an unconfirmed name in a log line.
pub const LOGGED_NAME_CHARS_MAX: usize = 160;
/// Connections open at once for one party.
pub const CONNECTIONS_PER_PARTY_MAX: usize = 512;
/// Milliseconds for a TCP connection to a partner, and for the TLS handshake over it.
pub const DIAL_MS: u64 = 5_000;
/// Seconds between HTTP/2 pings to a partner we dial, and for their answer.
pub const DIAL_KEEPALIVE_S: (u64, u64) = (60, 20);
/// Bytes that one stream, and one connection, may send ahead of us (HTTP/2 flow control).
pub const WINDOW_BYTES: (u32, u32) = (1 << 20, 4 << 20);
/// Bytes of one HTTP/2 frame.
pub const HTTP2_FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Bytes that one stream holds for a peer that does not read.
pub const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;
/// Bytes of small writes of one HTTP/2 connection that go out together.
pub const GATHERED_BYTES_MAX: usize = 64 << 10;
/// HTTP/2 frames without content (PING, SETTINGS, WINDOW_UPDATE, PRIORITY, RST_STREAM …) that a connection may send in a
/// minute, and may have saved up, beyond those its own traffic explains.
pub const CHEAP_FRAMES_PER_MINUTE: u64 = 10_000;
/// Bytes of content, in either direction, that explain one frame without content.
pub const BYTES_PER_CHEAP_FRAME: u64 = 512;
/// Frames without content that one block of headers explains.
pub const CHEAP_FRAMES_PER_HEADERS: u64 = 4;

// Calls.
/// Bytes of one decoded exchange request: the inline parts and their envelope.
pub const EXCHANGE_DECODE_BYTES_MAX: usize = INLINE_BYTES_MAX + (256 << 10);
/// Bytes of one decoded request of any other service.
pub const DECODE_BYTES_MAX: usize = 64 << 10;
/// Bytes of one encoded answer.
pub const ENCODE_BYTES_MAX: usize = 4 << 20;
/// Milliseconds that a unary call may take when the caller names no deadline, and at most.
pub const CALL_MS_MAX: u64 = 30_000;
/// Submissions of one stream that wait for their answer.
pub const STREAM_OPEN_MAX: usize = 1_024;
/// Receipts in one batch on their way back.
pub const RECEIPT_BATCH_MAX: usize = 256;

/// Calls of one identity that wait for a message at once: for its reply, or for its history.
pub const WAITERS_PER_IDENTITY_MAX: usize = 64;
/// Milliseconds that a call may wait for a reply when its caller names no deadline, and at most: 5 minutes.
pub const REQUEST_MS_MAX: u64 = 5 * 60 * 1000;
/// Milliseconds before its deadline at which a call that waits for a reply is answered, so that the answer still arrives.
pub const REQUEST_MARGIN_MS: u64 = 500;
/// Messages on a page of a list when the caller names no number, and at most.
pub const PAGE_MESSAGES: (usize, usize) = (100, 500);
/// Messages that one page of a list looks at, at most.
pub const LIST_EXAMINED_MAX: usize = 10_000;

// The ledger.
/// Entries that wait for the ledger.
pub const LEDGER_QUEUE_MAX: usize = 4_096;
/// Entries in one commit.
pub const COMMIT_ENTRIES_MAX: usize = 1_024;
/// Body bytes in one commit: 16 MiB.
pub const COMMIT_BYTES_MAX: usize = 16 << 20;
/// Messages that wait in one lane; more are refused until some have gone.
pub const LANE_MESSAGES_MAX: u64 = 2_000_000;
/// Bytes that the store's disk must have left before a new message is taken: 256 MiB for what is under way already.
pub const DISK_RESERVE_BYTES: u64 = 256 << 20;
/// Milliseconds between two looks at the disk's free space.
pub const DISK_LOOK_EVERY_MS: u64 = 1_000;
/// Milliseconds after which the sender of a waiting message is told, each time anew: an hour and a day.
pub const NOTICES_MS: [u64; 2] = [60 * 60 * 1000, DAY_MS];
/// Queue rows that are looked at in one go.
pub const DUE_AT_ONCE_MAX: usize = 1_024;
/// Milliseconds between two looks through the queues, at least.
pub const DUE_LOOK_EVERY_MS: u64 = 1_000;
/// Milliseconds between two sweeps of what is old.
pub const SWEEP_EVERY_MS: u64 = 60 * 60 * 1000;
/// Messages, or leaves, that one commit of retention takes.
pub const FORGET_AT_ONCE_MAX: usize = 256;
/// Days for which bodies are kept after their message has ended, envelopes after it came, evidence, and audit.
pub const RETENTION_DAYS: (u64, u64, u64, u64) = (30, 400, 3_653, 1_096);
/// Store readers open beside the one writer.
pub const READERS: usize = 4;
/// Pages (4 KiB) of the write-ahead log after which more of it is copied into the database beside the ledger, 4 MiB; from
/// which it begins anew, 64 MiB; and from which the ledger waits for that, 192 MiB.
pub const WAL_PAGES_STEP: u32 = 1_024;
pub const WAL_PAGES: u32 = 16 * WAL_PAGES_STEP;
pub const WAL_PAGES_MAX: u32 = 3 * WAL_PAGES;
/// Leaves of the newest commits whose proofs are held in memory, at about 64 bytes each: 4 MiB.
pub const RECENT_LEAVES_MAX: u64 = 1 << 16;
/// Rows that one statement inserts.
pub const ROWS_PER_INSERT: usize = 16;
/// Statements that one connection to the store keeps prepared: more than it has.
pub const STATEMENTS_KEPT: usize = 128;

// Lanes.
/// Messages of one lane that are out at once towards a partner we dial.
pub const WINDOW: usize = 64;
/// Messages of one lane that are held in memory at once.
pub const LANE_LOADED_MAX: usize = 1_024;
/// Milliseconds for one attempt's answer.
pub const ATTEMPT_MS: u64 = 15_000;
/// Milliseconds of the shortest and the longest pause of a lane whose partner does not answer.
pub const BACKOFF_MS: RangeInclusive<u64> = 1_000..=60 * 60 * 1000;
/// Milliseconds of a delivery's lease.
pub const LEASE_MS: u64 = 60_000;
/// Milliseconds to which a lease can be prolonged in all.
pub const LEASE_TOTAL_MS_MAX: u64 = 15 * 60 * 1000;
/// Deliveries of one message before it ends as a dead letter.
pub const DELIVERIES_MAX: u32 = 10;
/// Milliseconds by which "retry later" may postpone a case, at most: one day.
pub const RETRY_LATER_MS_MAX: u64 = DAY_MS;
/// Deliveries of one stream that are read from the store together, and the bytes of their bodies after which no more are.
pub const DELIVERIES_READ_TOGETHER: (usize, usize) = (64, 256 << 10);
/// Credits that one receiving stream may hold.
pub const CREDITS_MAX: u32 = 1_024;
/// Orders that wait at the desk of one lane.
pub const ORDERS_MAX: usize = 1_024;
/// Receiving streams of one system.
pub const RECEIVERS_PER_SYSTEM_MAX: usize = 64;

/// Failures of a partner in a row that open its lane's breaker.
pub const BREAKER_FAILURES: u32 = 5;
/// Milliseconds for which a breaker is open at least.
pub const BREAKER_MS: u64 = 30_000;
/// Milliseconds of the shortest and the longest time for which an address of a partner that failed is passed over.
pub const ADDRESS_OUT_MS: RangeInclusive<u64> = 10_000..=5 * 60 * 1000;
/// Milliseconds for which the trial of such an address is waited for before another may try it.
pub const ADDRESS_TRIAL_MS: u64 = 30_000;
/// Messages that a gateway which fetches takes at once from one partner.
pub const FETCH_CREDITS: u32 = 64;
/// Milliseconds for which a transfer of attachments may prolong an attempt in all: one day.
pub const UPLOAD_TOTAL_MS_MAX: u64 = DAY_MS;

// The member directory.
/// Largest version number of a record or a directory: the whole numbers that JSON carries exactly (RFC 7493 §2.2).
pub const VERSION_MAX: u64 = (1 << 53) - 1;
/// Bytes of a member's name in one language.
pub const MEMBER_NAME_BYTES_MAX: usize = 128;
/// Endpoints of one member.
pub const ENDPOINTS_MAX: usize = 16;
/// Bytes of a host name (RFC 1035 §2.3.4, written out).
pub const HOST_BYTES_MAX: usize = 253;
/// Root certificates of one member.
pub const ROOTS_MAX: usize = 8;
/// Log keys of one member: its instances, and the generations whose receipts must still verify.
pub const LOG_KEYS_MAX: usize = 64;
/// Members that one record lets relay.
pub const RELAYS_MAX: usize = 16;
/// Days that a member record may allow its certificates, at most: ten years and a little.
pub const RECORD_DAYS_MAX: u32 = 3_660;
/// Members of one alliance.
pub const MEMBERS_MAX: usize = 4_096;

// Routing tables.
/// Digits of the division in a row of a table: province to village.
pub const DIVISION_PREFIX_DIGITS: RangeInclusive<usize> = 2..=12;
/// Rows of one table, and of all tables together.
pub const ROWS_MAX: usize = 1 << 20;
/// Ways that one row names.
pub const CANDIDATES_MAX: usize = 8;
/// Faults told of one table's text.
pub const TABLE_FAULTS_MAX: usize = 100;
/// Bytes of one request with routing tables, and of one answer: 16 MiB, some 100,000 rows.
pub const TABLES_BYTES_MAX: usize = 16 << 20;
/// Milliseconds after a look at the tables until what was parsed for it is dropped: one minute.
pub const PARSED_TABLES_KEPT_MS: u64 = 60 * 1000;
/// Objections told against one set of tables.
pub const OBJECTIONS_MAX: usize = 100;

// Files.
/// Bytes of a file with a private key.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a file with certificates, revocations, a record or a directory: 16 MiB.
pub const PUBLIC_FILE_BYTES_MAX: u64 = 16 << 20;

// The log.
/// Bytes of a signed note: a directory of 6,000 members, each with a record of 1.3 kB.
pub const NOTE_BYTES_MAX: usize = 8 << 20;
/// Signature lines of a note; C2SP asks readers to take 16.
pub const SIGNATURES_MAX: usize = 32;
/// Leaves of a log, 2⁶³ − 1: the largest number that an SQL integer and Go's `int64` hold alike.
pub const LEAVES_MAX: u64 = i64::MAX as u64;
/// Pages of the store that one step of a backup copies (4 KiB each), and milliseconds of rest between two steps: at most
/// 200 MiB in a second, so that the ledger's own reads and syncs come in between.
pub const COPY_STEP: (i32, u64) = (512, 10);
/// Bytes of a backup's manifest.
pub const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// Places that the store keeps for the leaves of one log generation: 2⁴⁰, a whole tile of the fifth level.
pub const GENERATION_PLACES: u64 = 1 << 40;
/// Bytes of a receipt file: a checkpoint with sixteen post-quantum signatures of 5 kB in base64, the most C2SP asks of a
/// reader, and as much again for proof and extra data.
pub const PROOF_BYTES_MAX: usize = 256 << 10;
/// Verified checkpoints that a checker remembers: a batch of receipts shares a few, and 64 cost some 20 kB.
pub const CHECKPOINTS_CACHED_MAX: usize = 64;
/// Leaves whose bytes are hashed anew at every start; the whole log is the scrub's affair.
pub const REHASHED_AT_START: u64 = 4_096;
/// Milliseconds from a start to the first walk over the whole log.
pub const SCRUB_AFTER_START_MS: u64 = 5 * 60 * 1000;
/// Leaves in one piece of that walk, and milliseconds between two pieces.
pub const SCRUB_LEAVES: u64 = 4_096;
pub const SCRUB_PAUSE_MS: u64 = 50;
/// Days without a whole walk from which a running gateway's log is warned of.
pub const SCRUB_STALE_DAYS: u64 = 8;
/// Milliseconds by which the high-water mark may lag behind what was shown.
pub const MARK_EVERY_MS: u64 = 1_000;

// Witnesses.
/// Milliseconds between two published checkpoints of a log that grows. With what a commit takes, less than ten seconds.
pub const PUBLISH_EVERY_MS: u64 = 8_000;
/// Published checkpoints that are all kept, the newest ones; of those before one in each hour, as long as evidence.
pub const PUBLISHED_WHOLE_MAX: u64 = 1_024;
/// Cosigned checkpoints behind a leaf of which that with most cosignatures seals it.
pub const SEALS_COMPARED: u64 = 16;
/// Seconds between two looks of a witness at each log, unless configured.
pub const WITNESS_EVERY_S: u64 = 10;
/// Bytes of a cosignature's line: a log's name, key id, time and signature in base64.
pub const COSIGNATURE_BYTES_MAX: usize = LOG_ORIGIN_BYTES_MAX + 128;
/// Milliseconds after which a published checkpoint that nobody has cosigned is warned of.
pub const COSIGNED_WITHIN_MS: u64 = 10 * 60 * 1000;

// Answers.
/// Bytes of a receipt batch's name.
pub const BATCH_ID_BYTES_MAX: usize = 64;
/// Milliseconds advised before a retry.
pub const RETRY_AFTER_MS: u64 = 1_000;
/// Bytes of the status text that travels in a header.
pub const STATUS_TEXT_BYTES_MAX: usize = 512;
/// Bytes of status details in trailers: stock gRPC clients take header lists of 8 KiB, and base64 adds a third.
pub const STATUS_DETAILS_BYTES_MAX: usize = 5_000;
/// Milliseconds after which it is tried again whether a message may go whose route or grant was withdrawn.
pub const NOT_PERMITTED_NOW_MS: u64 = 60_000;
/// Milliseconds for which a case waits when the partner's clock or directory is behind.
pub const PARTNER_BEHIND_MS: u64 = 60_000;
/// Rows of one lane that wait for a retry and are held beside the loaded ones.
pub const LANE_PARKED_MAX: usize = 8 * LANE_LOADED_MAX;

// Notes that are carried.
/// Bytes of text in one piece of a note.
pub const NOTE_PIECE_BYTES_MAX: usize = 32 << 10;
/// Readers that watch the notes at once.
pub const NOTE_READERS_MAX: usize = 1_024;
/// Pieces that wait for one reader.
pub const NOTE_PIECES_WAITING_MAX: usize = 4;
/// Milliseconds without word from the hub after which what is known counts as stale: one hour. It holds all the same.
pub const NOTES_STALE_MS: u64 = 60 * 60 * 1000;
/// Milliseconds of the shortest and the longest pause before the hub is dialled again.
pub const FOLLOW_PAUSE_MS: RangeInclusive<u64> = 1_000..=60_000;

// Sealing.
/// Bytes of plaintext in each chunk of a sealed attachment but the last: 256 KiB.
pub const SEAL_CHUNK_BYTES: usize = 256 << 10;

// Attachments.
/// Bytes of attachments that one identity may have uploaded and not submitted: 16 GiB.
pub const STAGED_BYTES_MAX: u64 = 16 << 30;
/// Uploads that one identity may have begun and not submitted.
pub const STAGED_MAX: usize = 1_024;
/// Uploads that one identity may have open at once.
pub const UPLOADS_OPEN_MAX: usize = 16;
/// Bytes of the disk that uploads leave free for the ledger: 1 GiB.
pub const UPLOAD_RESERVE_BYTES: u64 = 1 << 30;
/// Bytes of an upload between two syncs: what a power cut costs at most.
pub const ATTACHMENT_SYNC_BYTES: u64 = 8 << 20;
/// Milliseconds for which an upload that nobody touches is kept.
pub const STAGED_MS: u64 = DAY_MS;
/// Milliseconds after which a blob that nothing refers to may go.
pub const BLOB_GRACE_MS: u64 = 60 * 60 * 1000;
/// Milliseconds that an attachment's stream may go without a step, in either direction.
pub const ATTACHMENT_IDLE_MS: u64 = 60_000;
/// Downloads that one identity may have open at once.
pub const DOWNLOADS_OPEN_MAX: usize = 16;

// Dead letters.
/// Bytes of one decoded request of those who operate the gateway: as many names as one request may hold.
pub const ADMIN_DECODE_BYTES_MAX: usize = 128 << 10;
/// Letters that one redrive or discard takes.
pub const DEAD_AT_ONCE_MAX: usize = 100_000;
/// Letters that one request names.
pub const DEAD_NAMED_MAX: usize = 1_000;
/// Causes told at once.
pub const DEAD_GROUPS_MAX: usize = 1_000;
/// Letters on a page when the caller does not say, and at most.
pub const DEAD_PAGE: (usize, usize) = (100, 500);
/// Letters read, or set aside, in one go.
pub const DEAD_CHUNK: usize = 256;
/// Letters named as examples of an obstacle.
pub const DEAD_EXAMPLES_MAX: usize = 10;
/// Bytes of the reason for which letters are set aside.
pub const DISCARD_REASON_BYTES_MAX: usize = 256;
/// Messages per second of a redrive when the caller does not say, and at most.
pub const REDRIVE_PER_S: (u32, u32) = (50, 1_000);
/// Canaries of one redrive.
pub const CANARIES_MAX: usize = 1_000;
/// Milliseconds for which canaries are waited for when the caller does not say, and at most.
pub const CANARY_PATIENCE_MS: (u64, u64) = (5 * 60 * 1000, DAY_MS);
/// Milliseconds that a redriven message may be of use: 400 days.
pub const REDRIVEN_TO_LIVE_MS_MAX: u64 = ID_WINDOW_MS;
/// Tries to submit one letter while the gateway has no room for it, `RETRY_AFTER_MS` apart, before a redrive stops.
pub const REDRIVE_TRIES_MAX: u32 = 60;
/// Steps of a redrive that wait for its caller.
pub const REDRIVE_STEPS_WAITING_MAX: usize = 64;

// Lanes in an operator's hand.
/// Milliseconds for a lane's answer how it stands: it works on what came before.
pub const LANE_TELL_MS: u64 = 2_000;
/// Messages of a case that a trace shows.
pub const TRACE_CASE_MESSAGES_MAX: usize = 100;
/// Members on a page when the caller does not say, and at most.
pub const MEMBERS_PAGE: (usize, usize) = (100, 500);
/// Milliseconds until what was decided about a member, or handed in, is in force.
pub const ENFORCE_MS_MAX: u64 = 5_000;
/// Bytes of a fingerprint as a person writes it.
pub const FINGERPRINT_BYTES_MAX: usize = 128;
/// Checks or categories that one request names, and bytes of each name.
pub const CHECK_NAMES_MAX: usize = 32;
pub const CHECK_NAME_BYTES_MAX: usize = 64;
/// Bytes of the reason for which a lane is paused, or goes on.
pub const PAUSE_REASON_BYTES_MAX: usize = 256;

// Reloads.
/// Faults told of one reload, and bytes of each.
pub const RELOAD_FAULTS_MAX: usize = 100;
pub const RELOAD_FAULT_BYTES_MAX: usize = 1_024;

// The audit.
/// Refused acts that go on record in one minute: of one identity, and of all identities of one member.
pub const AUDIT_REFUSED_PER_MINUTE: (u32, u32) = (10, 60);
/// Acts on a page when the caller does not say, and at most.
pub const AUDIT_PAGE: (usize, usize) = (100, 500);
/// Acts that one page looks at, at most.
pub const AUDIT_EXAMINED_MAX: usize = 10_000;
/// Bytes of the reason for which somebody looks at a content.
pub const LOOK_REASON_BYTES_MAX: usize = 256;

// Statistics.
/// Milliseconds of the range of time that one request counts: 400 days.
pub const STATS_RANGE_MS_MAX: u64 = 400 * DAY_MS;
/// Messages that one page looks at, and rows that it has, at most.
pub const STATS_EXAMINED_MAX: usize = 20_000;
pub const STATS_ROWS_MAX: usize = 2_000;

// Reflection.
/// Questions that one stream of reflection may ask.
pub const REFLECTIONS_MAX: usize = 1_000;

// Checks.
/// Milliseconds by which the clock may be behind what was already signed before that is a fault: one minute.
pub const CLOCK_BACK_MS_MAX: u64 = 60_000;
/// Bytes that the store's disk should have left: 2 GiB.
pub const DISK_LOW_BYTES: u64 = 2 << 30;
/// Bytes of the store's write-ahead log that are unusual: 256 MiB.
pub const WAL_BYTES_LARGE: u64 = 256 << 20;
/// Days before its end at which a certificate is warned of, each time anew, and from which that is urgent.
pub const CERTIFICATE_WARN_DAYS: [u64; 5] = [60, 30, 14, 7, 1];
pub const CERTIFICATE_URGENT_DAYS: u64 = 14;
/// Days before its end from which a revocation list is warned of.
pub const CRL_WARN_DAYS: u64 = 2;
/// Days after which a directory counts as old.
pub const DIRECTORY_STALE_DAYS: u64 = 90;
/// Milliseconds that the oldest message of a lane waits before it is warned of, and before the lane counts as stuck.
pub const LANE_OLD_MS: u64 = 60 * 60 * 1000;
pub const LANE_STUCK_MS: u64 = DAY_MS;
/// Milliseconds by which a partner's clock may differ before it is warned of.
pub const PARTNER_CLOCK_MS_MAX: u64 = 60_000;
/// Seconds between two examinations that a gateway makes of itself, and of its partners, unless configured.
pub const CHECK_EVERY_S: (u64, u64) = (5, 30);
/// Bytes of a file of configuration, and files beside the main one.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
pub const CONFIG_FILES_MAX: usize = 64;
/// Faults of a file of configuration that are looked for.
pub const CONFIG_FAULTS_MAX: usize = 100;
/// Milliseconds for a gateway's examination of itself, after which it counts as hanging.
pub const CHECK_MS_MAX: u64 = 10_000;
/// Partners that are examined at once.
pub const PARTNERS_AT_ONCE_MAX: usize = 16;

// Partner tests.
/// Seconds between two tests of the way to a partner, unless configured: a quarter of an hour; 0 would be never.
pub const TEST_EVERY_S: u64 = 900;
/// Seconds until the next test of a way that was found broken, at most.
pub const TEST_AGAIN_S: u64 = 60;
/// Seconds after a start by which every partner was tested first: five minutes.
pub const TEST_FIRST_S: u64 = 300;
/// Milliseconds for which a test message is under way at most; longer than a partner's clock may differ unnoticed.
pub const TEST_TO_LIVE_MS: u64 = 2 * 60 * 1000;
/// Milliseconds for which somebody who asks for a test waits for its end: within a call's deadline.
pub const TEST_WAIT_MS: u64 = 20_000;
/// Milliseconds for which test messages are kept.
pub const TESTS_KEPT_MS: u64 = DAY_MS;
/// Tests of one pair of cities that are looked at: one under way, and the one before.
pub const TESTS_SEEN: usize = 2;
/// Milliseconds between two looks at who is to be tested.
pub const TEST_LOOK_EVERY_MS: u64 = 1_000;

// Telemetry.
/// Monitors that are answered at once.
pub const SCRAPES_AT_ONCE_MAX: usize = 4;
/// Monitors of other machines that are connected at once.
pub const MONITORS_AT_ONCE_MAX: usize = 16;
/// Milliseconds for one monitor's request and its answer.
pub const SCRAPE_MS: u64 = 5_000;
/// Bytes of a monitor's request: the least that hyper reads by.
pub const SCRAPE_HEAD_BYTES_MAX: usize = 8 << 10;
/// Milliseconds for which what was read from the disk is shown again instead of reading it anew.
pub const LOOK_EVERY_MS: u64 = 1_000;

// Case files.
/// Messages of one case in its file, at most.
pub const CASE_MESSAGES_MAX: usize = 1_000;
/// Bytes of contents in one case file, at most: 256 MiB.
pub const CASE_BODIES_BYTES_MAX: u64 = 256 << 20;
/// Events in one drawing of a case, so that it fits a printed page.
pub const CASE_DRAWING_ROWS: usize = 24;
