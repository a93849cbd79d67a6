//! Server-sent events out of bytes as they arrive (WHATWG HTML, 9.2.6).

/// An event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Its number, where it has one.
    pub(super) id: Option<u64>,
    /// Its data.
    pub(super) data: String,
}

/// Reads events; what has not arrived whole waits.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: Vec<u8>,
    next: Message,
}

impl Reader {
    /// Takes bytes; gives the events that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.buffer.extend_from_slice(bytes);
        let mut whole = Vec::new();
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            whole.extend(self.line(line.trim_end_matches(['\r', '\n'])));
        }
        whole
    }

    fn line(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            let message = std::mem::take(&mut self.next);
            return (!message.data.is_empty()).then_some(message);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.next.id = value.parse().ok(),
            "data" if self.next.data.is_empty() => value.clone_into(&mut self.next.data),
            "data" => self.next.data = format!("{}\n{value}", self.next.data),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_their_bytes_arrive() {
        let stream =
            "\u{feff}: hello\n\nid: 7\nevent: step\ndata: {\"a\":\ndata: \"é\"}\n\n: alive\r\n\r\nid:8\r\ndata:x\r\n\r\nid: 9\ndata: cut";
        let expected = [Message { id: Some(7), data: "{\"a\":\n\"é\"}".into() }, Message { id: Some(8), data: "x".into() }];
        for size in [1, 2, 3, 7, 1000] {
            let mut reader = Reader::default();
            let read: Vec<Message> = stream.as_bytes().chunks(size).flat_map(|bytes| reader.push(bytes)).collect();
            assert_eq!(read, expected, "in pieces of {size}");
        }
    }
}
