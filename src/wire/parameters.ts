/**
 * The parameters of libpq, as tables: which of them count, and what becomes of the others.
 * https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
 */

/** Each parameter that counts, with the variable that stands in for it; `""`: there is none. */
export const VARIABLES = {
  application_name: "PGAPPNAME",
  channel_binding: "PGCHANNELBINDING",
  connect_timeout: "PGCONNECT_TIMEOUT",
  dbname: "PGDATABASE",
  fallback_application_name: "",
  gssencmode: "PGGSSENCMODE",
  host: "PGHOST",
  hostaddr: "PGHOSTADDR",
  keepalives: "",
  keepalives_idle: "",
  load_balance_hosts: "PGLOADBALANCEHOSTS",
  min_protocol_version: "PGMINPROTOCOLVERSION",
  options: "PGOPTIONS",
  passfile: "PGPASSFILE",
  password: "PGPASSWORD",
  port: "PGPORT",
  require_auth: "PGREQUIREAUTH",
  requirepeer: "PGREQUIREPEER",
  service: "PGSERVICE",
  servicefile: "PGSERVICEFILE",
  sslcert: "PGSSLCERT",
  sslcertmode: "PGSSLCERTMODE",
  sslcrl: "PGSSLCRL",
  sslcrldir: "PGSSLCRLDIR",
  sslkey: "PGSSLKEY",
  sslmode: "PGSSLMODE",
  sslnegotiation: "PGSSLNEGOTIATION",
  sslpassword: "",
  sslrootcert: "PGSSLROOTCERT",
  sslsni: "PGSSLSNI",
  ssl_min_protocol_version: "PGSSLMINPROTOCOLVERSION",
  target_session_attrs: "PGTARGETSESSIONATTRS",
  user: "PGUSER",
} as const;

/** A parameter that counts. */
export type Parameter = keyof typeof VARIABLES;

/** What else of the environment is looked at. */
export const OTHER_VARIABLES = [
  "APPDATA",
  "DATABASE_URL",
  "HOME",
  "LOGNAME",
  "PGREQUIRESSL",
  "PGSYSCONFDIR",
  "USER",
  "USERNAME",
] as const;

/** Dropped without a word: what they ask for is done anyway, or is about what is never done. */
export const WITHOUT_EFFECT: ReadonlySet<string> = new Set([
  "client_encoding",
  "gssdelegation",
  "gsslib",
  "krbsrvname",
  "max_protocol_version",
  "replication",
  "ssl",
  "sslcompression",
]);

/**
 * Protections that are not to be had here, with the values (in lower case) that ask for nothing
 * which is not done anyway. Every other value is refused: to ignore it would be to weaken it.
 */
export const PROTECTIONS = {
  gssencmode: ["disable", "prefer"],
  min_protocol_version: ["3.0"],
  requirepeer: [],
  sslcertmode: ["disable", "allow"],
  sslcrl: [],
  sslcrldir: [],
  ssl_min_protocol_version: ["tlsv1", "tlsv1.1", "tlsv1.2"],
} as const satisfies Partial<Record<Parameter, readonly string[]>>;
